/* init.h - `pillion run`: starts the application and the helper side by side, and gets out of the way.
 *
 *     pillion run [-g] [--] COMMAND [ARG …]
 *     pillion run [-g] --workers N|auto [--] SCRIPT [ARG …]
 *
 * As pid 1 or, elsewhere, as a subreaper: the application's orphans come to us. Everything here is one thread, one loop around
 * sigtimedwait(2) and no wake-up while nothing happens. No network, no JSON, no libuv: what can crash is in the helper.
 *
 * What the application gets is what it would get without us: signal mask, ignored signals, descriptors, limits, directory, umask,
 * oom_score_adj. Added are NODE_OPTIONS (prepare.h) and _PILLION_RUN, by which a nested `run` sees that there is a helper. The
 * helper's oom_score_adj is left as found, too: it is by far the smallest process here, so that its end would free nothing, and it
 * is the one that knows afterwards what happened.
 *
 * Signals. Each one that can be caught is given to the application's main process, once, and to nobody else; with -g to its process
 * group. A master coordinates its own workers: a process that hears SIGTERM from us and from its master would take the second one
 * for "now". A terminal's Ctrl-C goes to the application's group, which is the foreground one, and does not pass through us.
 * SIGHUP with --workers: the master reloads its workers one by one. SIGTERM starts the clock of PILLION_STOP_TIMEOUT.
 *
 * Stop. When the main process has gone, each process that has lost its parent, in whatever session, gets SIGTERM once; one that
 * has a parent is its parent's business. All that is left one second before the end of the stop timeout is killed. Then the helper
 * gets SIGTERM and what is left of the time. We end as soon as it has ended, never later than the stop timeout.
 *
 * Helper. Started again when it dies: at once, then with back-off. Not started again after exit codes 69 (another one uses the
 * directory) and 78 (bad configuration). It finds in PILLION_INIT_FD the number of a pipe's read end, see exit_feed.h; end of file
 * there means that we are gone, and the helper ends. */
#ifndef PILLION_INIT_H
#define PILLION_INIT_H

/* argv[0] is "run". Returns the exit status: the application's code, 128 + its signal, 127 not found, 126 not executable, 64 wrong
 * usage, 71 the system refused (no memory, no process). */
int init_main(int argc, char **argv, char *const *env);

#endif
