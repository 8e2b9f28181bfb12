/* check_node.h - the part of `pillion check` that is about Node.js: which one, and who runs with
 * the preload. */
#ifndef PILLION_CLI_CHECK_NODE_H
#define PILLION_CLI_CHECK_NODE_H

#include "agent/cli/report.h"
#include "agent/config.h"

void check_node(struct report *r, char *const *env);
void check_preload(struct report *r, const struct config *config);
/* Looks at the processes whose environment may be read. */
void check_processes(struct report *r, const struct config *config);

#endif
