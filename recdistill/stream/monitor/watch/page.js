"use strict";
// Every EVERY ms the page is asked for again, and the parts that changed take the place of the old ones.
const EVERY = 2000, PATIENCE = 8000;
const gone = document.getElementById("gone"), pause = document.getElementById("pause");
let last = new Date(), paused = false;

function swap(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const now = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!now || part.querySelector(".hit:hover, .hit:focus")) continue; // someone reads a value there
    const open = [...part.querySelectorAll("details")].map(each => each.open);
    [...now.querySelectorAll("details")].forEach((each, i) => { each.open = open[i] ?? each.open; });
    if (now.innerHTML === part.innerHTML) continue;
    const held = [...part.querySelectorAll("summary")].indexOf(document.activeElement);
    part.replaceChildren(...now.childNodes);
    if (held >= 0) part.querySelectorAll("summary")[held]?.focus({ preventScroll: true });
  }
  document.title = fresh.title;
}

async function refresh() {
  let why = "";
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.ok) {
      swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
      last = new Date();
    } else why = answer.status === 503 ? "The run’s tables cannot be read" : `The server answers ${answer.status}`;
  } catch {
    why = "recdistill watch does not answer";
  }
  const text = why && `${why}. What you see is of ${last.toLocaleTimeString()}.`;
  if (gone.textContent !== text) gone.textContent = text;
  gone.hidden = !why;
}

async function forEver() {
  if (!paused && !document.hidden) await refresh();
  setTimeout(forEver, EVERY);
}

pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
});
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) refresh(); });
setTimeout(forEver, EVERY);
