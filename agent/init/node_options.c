#include "agent/init/node_options.h"

#include <errno.h>

#include "agent/base/mem.h"

/* The next option of *s into `word` (reset first); false at the end. -EINVAL in *err where Node.js reports an error. */
static bool next_option(const char **s, struct buf *word, int *err) {
    const char *p = *s;
    bool quoted = false, any = false;

    buf_reset(word);
    while (*p == ' ')
        p++;
    for (; *p != '\0' && (quoted || *p != ' '); p++) {
        if (*p == '"') {
            quoted = !quoted;
            continue;
        }
        if (*p == '\\' && quoted && *++p == '\0')
            break;
        buf_putc(word, *p);
        any = true;
    }
    *s = p;
    if (quoted)
        *err = -EINVAL;
    else if (word->err != 0)
        *err = word->err;
    return *err == 0 && (any || *p != '\0');
}

static bool is_require(const char *option) {
    return strcmp(option, "--require") == 0 || strcmp(option, "-r") == 0;
}

/* 0: `old` is sound and does not require `path`. */
static int look_through(const char *old, const char *path) {
    struct buf word;
    bool wanted = false;
    int rc = 0;

    buf_init(&word, strlen(old) + 1);
    while (rc == 0 && next_option(&old, &word, &rc)) {
        const char *option = word.len > 0 ? word.data : "";

        if (wanted && strcmp(option, path) == 0)
            rc = -EEXIST;
        wanted = is_require(option);
        if (strncmp(option, "--require=", 10) == 0 && strcmp(option + 10, path) == 0)
            rc = -EEXIST;
    }
    buf_clear(&word);
    return rc;
}

int node_options_add(struct buf *out, const char *old, const char *path) {
    bool quote = strpbrk(path, " \"\\") != NULL;

    if (old != NULL && *old != '\0') {
        int rc = look_through(old, path);

        if (rc != 0)
            return rc;
        buf_puts(out, old);
        buf_putc(out, ' ');
    }
    buf_puts(out, "--require=");
    if (!quote) {
        buf_puts(out, path);
        return out->err;
    }
    buf_putc(out, '"');
    for (; *path != '\0'; path++) {
        if (*path == '"' || *path == '\\')
            buf_putc(out, '\\');
        buf_putc(out, *path);
    }
    buf_putc(out, '"');
    return out->err;
}

#define MODEL                                                                                      \
    "--experimental-permission" /* later versions call it --permission, and are not meant here */
#define ALLOW "--allow-fs-read="

static bool allows(const char *paths, const char *dir) {
    return paths[0] == '*' || strstr(paths, dir) != NULL;
}

bool node_options_forbid(const char *const *argv, const char *old, const char *dir) {
    const char *allow = old != NULL ? strstr(old, ALLOW) : NULL;
    bool model = old != NULL && strstr(old, MODEL) != NULL;
    bool allowed = allow != NULL && allows(allow + strlen(ALLOW), dir);

    for (; *argv != NULL; argv++) {
        model = model || strcmp(*argv, MODEL) == 0;
        allowed = allowed ||
                  (strncmp(*argv, ALLOW, strlen(ALLOW)) == 0 && allows(*argv + strlen(ALLOW), dir));
    }
    return model && !allowed;
}
