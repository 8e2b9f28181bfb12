/* check_registry.h - the part of `pillion check` that tries the registry for real: can it be reached, does it take our token, may we
 * register, what would stand in the entry, which hubs does it know. Nothing is changed there. */
#ifndef PILLION_CLI_CHECK_REGISTRY_H
#define PILLION_CLI_CHECK_REGISTRY_H

#include "agent/cli/report.h"
#include "agent/config.h"

/* Asks one thing after the other, each for 10 s at most. Says nothing where no registry is configured and none is needed. */
void check_registry(struct report *r, const struct config *config, char *const *env);

#endif
