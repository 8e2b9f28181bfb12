/* terminal.h - job control on standard input. Without a terminal there every function does nothing. */
#ifndef PILLION_INIT_TERMINAL_H
#define PILLION_INIT_TERMINAL_H

#include <stdbool.h>
#include <sys/types.h>

/* Is standard input our controlling terminal, and group `pgid` its foreground? Not a terminal (ENOTTY) and a terminal that is gone
 * or somebody else's (ENXIO, EIO) are simply "no". */
bool terminal_belongs_to(pid_t pgid);
/* Makes `pgid` the foreground group. SIGTTOU must be blocked or ignored: the caller may be in the background. */
void terminal_give(pid_t pgid);

#endif
