/* Preloaded: the N-th change to a file below a folder fails, or all from it on; see faults.py. cc -shared -fPIC -o faults.so _faults.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[PATH_MAX];
static int fault, kinds, forever;
static int at, count, fired; /* shared by all threads */
enum { WRITE = 1, OPEN = 2, NAME = 4, SYNC = 8 };

/* fault: an errno, or -1 for a write of half the bytes. kinds: sum of the above. */
void fault_arm(const char *below, int which, int where, int index, int sticky) {
    strncpy(root, below, sizeof root - 1);
    fault = which, kinds = where, forever = sticky, at = index, count = 0, fired = 0;
}

int fault_fired(void) { return fired; }

static int below(const char *path) { return root[0] && path && strncmp(path, root, strlen(root)) == 0; }

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!root[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}

static int now(int kind) {
    if (!(kinds & kind)) return 0;
    int mine = __sync_fetch_and_add(&count, 1);
    int hit = forever ? mine >= at : mine == at;
    if (hit) fired = 1;
    return hit;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(test, kind) if ((test) && now(kind)) { errno = fault; return -1; }

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (below_fd(fd) && now(WRITE)) {
        if (fault == -1) return real(fd, data, size > 1 ? size / 2 : size);
        errno = fault;
        return -1;
    }
    return real(fd, data, size);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t where) {
    REAL(pwrite64);
    if (below_fd(fd) && now(WRITE)) {
        if (fault == -1) return real(fd, data, size > 1 ? size / 2 : size, where);
        errno = fault;
        return -1;
    }
    return real(fd, data, size, where);
}
ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev);
    if (below_fd(fd) && now(WRITE)) {
        if (fault == -1) return real(fd, parts, 1);
        errno = fault;
        return -1;
    }
    return real(fd, parts, n);
}
int fsync(int fd) { REAL(fsync); FAIL(below_fd(fd), SYNC) return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); FAIL(below_fd(fd), SYNC) return real(fd); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); FAIL(below_fd(fd), WRITE) return real(fd, size); }
int rename(const char *from, const char *to) { REAL(rename); FAIL(below(to), NAME) return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); FAIL(below(to), NAME) return real(a, from, b, to); }
int link(const char *from, const char *to) { REAL(link); FAIL(below(to), NAME) return real(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) { REAL(linkat); FAIL(below(to), NAME) return real(a, from, b, to, flags); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); FAIL(below(path), NAME) return real(path, mode); }

#define OPENED(path, flags) FAIL(below(path) && ((flags) & (O_WRONLY | O_RDWR | O_CREAT)), OPEN)
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }
int open(const char *path, int flags, ...) { REAL(open); MODE(flags) OPENED(path, flags) return real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE(flags) OPENED(path, flags) return real(path, flags, mode); }
int openat(int at_, const char *path, int flags, ...) { REAL(openat); MODE(flags) OPENED(path, flags) return real(at_, path, flags, mode); }
int openat64(int at_, const char *path, int flags, ...) { REAL(openat64); MODE(flags) OPENED(path, flags) return real(at_, path, flags, mode); }
