/* check_remote.h - the part of `pillion check` that tries the remote sinks for real: one harmless request to each. */
#ifndef PILLION_CLI_CHECK_REMOTE_H
#define PILLION_CLI_CHECK_REMOTE_H

#include "agent/cli/report.h"
#include "agent/config.h"

/* One line for each remote sink of PILLION_SINK. All are asked at the same time, for PROBE_MS at most. */
void check_remote_sinks(struct report *r, const struct config *config);

#endif
