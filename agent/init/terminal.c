#include "agent/init/terminal.h"

#include "agent/base/mem.h"

bool terminal_belongs_to(pid_t pgid) {
    return tcgetpgrp(STDIN_FILENO) == pgid;
}

void terminal_give(pid_t pgid) {
    (void)tcsetpgrp(STDIN_FILENO, pgid); /* fails when the terminal hung up: nobody is there */
}
