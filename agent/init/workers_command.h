/* workers_command.h - `run --workers`: the command line that starts the master (master.js). */
#ifndef PILLION_INIT_WORKERS_COMMAND_H
#define PILLION_INIT_WORKERS_COMMAND_H

#include <stdint.h>

/* An argument vector (mem_free it alone; *ret_text too): node <dir>/master.js <workers> <stop ms> SCRIPT ARG …; `dir` NULL: the
 * master's text goes onto the command line, so that the application starts without a usable directory as well. */
int workers_command(char ***ret, char **ret_text, const char *dir, unsigned workers,
                    uint64_t stop_ms, char *const *script);

#endif
