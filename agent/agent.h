/* agent.h - `pillion agent`: the helper. Joins what comes in, what is measured and what goes out. */
#ifndef PILLION_AGENT_H
#define PILLION_AGENT_H

/* Runs until SIGTERM, SIGINT or the end of init. Returns a code of sysexits(3): 0 after a clean stop, 78 (EX_CONFIG) bad
 * configuration, 69 (EX_UNAVAILABLE) another helper has the directory, 77 (EX_NOPERM) the directory cannot be used, 71 (EX_OSERR)
 * anything else before the loop ran. */
int agent_main(int argc, char **argv, char *const *env);

#endif
