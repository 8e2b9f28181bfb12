/* capture_file.h - from a job to the file that somebody wants to have: which of its artifacts, and in which form. */
#ifndef PILLION_CLI_CAPTURE_FILE_H
#define PILLION_CLI_CAPTURE_FILE_H

#include <jansson.h>
#include <stdbool.h>

/* Copies what the helper holds for us to `output` ("-": standard output), whole or not at all: *.html is the flame graph, *.gz is
 * compressed, everything else is plain. `several`: the pid goes into the name. Prints what went wrong; a code of sysexits(3). */
int capture_file_copy(const char *command, const json_t *job, const char *action,
                      const char *output, bool several);

#endif
