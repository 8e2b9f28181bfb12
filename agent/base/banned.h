/* banned.h - calls that have no place here; included by every .c through mem.h. */
#ifndef PILLION_BANNED_H
#define PILLION_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* glibc's fortified headers make macros of some of them for clang. */
#undef strcpy
#undef strcat
#undef sprintf
#undef vsprintf

/* clang-format off */
#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok atoi atol atof system sleep usleep abort
/* clang-format on */

#endif
