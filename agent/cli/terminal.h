/* terminal.h - what is at the other end of standard input and output, and taking it over for a
 * live view. */
#ifndef PILLION_CLI_TERMINAL_H
#define PILLION_CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

struct terminal {
    bool output; /* standard output is one that understands escape sequences */
    bool input;  /* standard input is one, too: keys can be read */
    bool colour; /* NO_COLOR is not set */
    bool utf8;   /* by LC_ALL, LC_CTYPE, LANG */
    bool taken;
    struct termios before;
};

void terminal_look(struct terminal *t, char *const *env);
/* Columns and lines now; without a terminal COLUMNS and LINES, else 0. */
void terminal_size(char *const *env, size_t *ret_width, size_t *ret_height);
/* Alternate screen, no cursor, keys one by one and unseen; and all of it back again. Both may be
 * called at any time. */
void terminal_take(struct terminal *t);
void terminal_give_back(struct terminal *t);

#endif
