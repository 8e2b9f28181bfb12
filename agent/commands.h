/* commands.h - what somebody asks for, as JSON: {"id":…,"action":…,"worker":…,"params":{…}} (README, Commands). From the status
 * socket, the command port, the answer of a hub. No state, no I/O.
 *
 * An id is 1 to COMMAND_ID_BYTES letters, digits, ".", "_" and "-", and begins with a letter or a digit: it becomes part of a
 * file's name. */
#ifndef PILLION_COMMANDS_H
#define PILLION_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#include "collectors/capture.h"
#include "collectors/workers.h"

#define COMMAND_ID_BYTES  128
#define COMMAND_WHY_BYTES 256

struct command {
    char id[COMMAND_ID_BYTES + 1]; /* "": none was given */
    char worker[WORKER_ID_BYTES];  /* a selector: see command_selects() */
    struct capture_order order;
    bool hold; /* the files stay readable under the data directory for a while, for whoever asked */
};

/* -EINVAL with a reason that names the member and what is accepted, in `why` (COMMAND_WHY_BYTES); -ENOMEM. Members of the command
 * that this version does not know are ignored, parameters are not: a misspelt one would be obeyed in part. */
int command_read(const char *json, size_t len, struct command *ret, char *why);

/* How long this order may take, from its start. */
uint64_t command_deadline_ms(const struct capture_order *order);
/* Does it keep the worker busy, so that two of them at once would disturb each other? */
bool command_is_heavy(enum capture_action action);

bool command_id_is_good(const char *id);
/* COMMAND_ID_BYTES + 1 bytes; random. */
void command_make_id(char *out);

/* Is this worker meant by `all`, a role, a pid, "<pid>:<start>" or "<pid>:<start>/<thread>"? `all` and a pid mean main threads.
 * Workers that have ended are never meant. */
bool command_selects(const char *selector, const struct worker *w);

#endif
