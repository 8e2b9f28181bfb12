/* fault.h - places at which a test ends the process as a kill would: FAULT("record-written").
 *
 * Nothing in any build but MODE=fault. There FAULT_POINT=<name>:<n> in the environment makes the nth
 * pass of that place send SIGKILL to the process itself. FAULT_NAMES lists them all; the names say
 * what has just happened. SPOOL.md tells what each of them leaves behind. */
#ifndef PILLION_SPOOL_FAULT_H
#define PILLION_SPOOL_FAULT_H

#ifdef PILLION_FAULTS
void fault_pass(const char *name);
#define FAULT(name) fault_pass(name)
#else
#define FAULT(name) ((void)0)
#endif

#endif
