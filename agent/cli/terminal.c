#include "agent/cli/terminal.h"

#include <ctype.h>
#include <sys/ioctl.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/init/prepare.h"

#define ENTER "\033[?1049h\033[?25l\033[2J"
#define LEAVE "\033[0m\033[?25h\033[?1049l"

/* In the order of setlocale(3): the first that is set and not empty counts. */
static bool locale_is_utf8(char *const *env) {
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const char *v = prepare_getenv(env, names[i]);

        if (v == NULL || v[0] == '\0')
            continue;
        for (; *v != '\0'; v++)
            if (strncasecmp(v, "utf-8", 5) == 0 || strncasecmp(v, "utf8", 4) == 0)
                return true;
        return false;
    }
    return false;
}

void terminal_look(struct terminal *t, char *const *env) {
    const char *term = prepare_getenv(env, "TERM"), *no_color = prepare_getenv(env, "NO_COLOR");

    *t = (struct terminal){0};
    t->output =
        isatty(STDOUT_FILENO) == 1 && term != NULL && term[0] != '\0' && strcmp(term, "dumb") != 0;
    t->input = isatty(STDIN_FILENO) == 1;
    t->colour = t->output && (no_color == NULL || no_color[0] == '\0');
    t->utf8 = locale_is_utf8(env);
}

static size_t from_env(char *const *env, const char *name) {
    const char *s = prepare_getenv(env, name);
    uint64_t v = 0;

    return s != NULL && text_u64(s, &v) == 0 && v <= 10000 ? (size_t)v : 0;
}

void terminal_size(char *const *env, size_t *ret_width, size_t *ret_height) {
    struct winsize w = {0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) != 0)
        w = (struct winsize){0};
    *ret_width = w.ws_col > 0 ? w.ws_col : from_env(env, "COLUMNS");
    *ret_height = w.ws_row > 0 ? w.ws_row : from_env(env, "LINES");
}

void terminal_take(struct terminal *t) {
    struct termios raw;

    if (t->taken || !t->output)
        return;
    if (t->input && tcgetattr(STDIN_FILENO, &t->before) == 0) {
        raw = t->before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO); /* ISIG stays: Ctrl-C and Ctrl-Z work */
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        t->input = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    }
    t->taken = true;
    (void)fs_write_all(STDOUT_FILENO, ENTER, sizeof(ENTER) - 1); /* the first frame will tell */
}

void terminal_give_back(struct terminal *t) {
    if (!t->taken)
        return;
    t->taken = false;
    (void)fs_write_all(STDOUT_FILENO, LEAVE, sizeof(LEAVE) - 1); /* on the way out */
    if (t->input)
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
}
