"""One loop for every model: predict, record, learn; jobs, schedules, processes."""
