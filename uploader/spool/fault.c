#include "uploader/spool/fault.h"

#ifdef PILLION_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fault_pass(const char *name) {
    static atomic_long passes;
    const char *wanted = getenv("FAULT_POINT");
    size_t len = strlen(name);

    if (wanted == NULL || strncmp(wanted, name, len) != 0 || wanted[len] != ':')
        return;
    if (atomic_fetch_add(&passes, 1) + 1 == strtol(wanted + len + 1, NULL, 10))
        (void)kill(getpid(), SIGKILL); /* does not come back */
}

#endif
