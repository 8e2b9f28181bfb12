/* config_values.c - from the text of one variable to its place in struct config, by the kind of its row. */
#include <errno.h>
#include <limits.h>

#include "agent/advertise.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/config_table.h"
#include "uploader/registry/address.h"
#include "uploader/url.h"

#define SINK_BYTES 4200

bool config_printable(const char *s) {
    const unsigned char *p = (const unsigned char *)s;
    size_t n;

    if (*p == '\0' || strlen(s) > CONFIG_NAME_BYTES)
        return false;
    for (; *p != '\0'; p += n) {
        n = text_utf8_len(p);
        if (n == 0 || (n == 1 && (*p < 0x20 || *p == 0x7f)))
            return false;
    }
    return true;
}

/* Each parser takes the whole value, stores it, and returns 0, -EINVAL (not of this kind), -ERANGE or -ENOMEM. */
static int store_string(struct config *c, const struct option *o, const char *value, size_t len) {
    char *copy = mem_strndup(value, len), **where = (char **)((char *)c + o->where);

    if (copy == NULL)
        return -ENOMEM;
    mem_free(*where);
    *where = copy;
    return 0;
}

static int parse_name(struct config *c, const struct option *o, const char *value) {
    return config_printable(value) ? store_string(c, o, value, strlen(value)) : -EINVAL;
}

static bool text_is_plain(const char *s) {
    for (; *s != '\0'; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            return false;
    return true;
}

static int parse_path(struct config *c, const struct option *o, const char *value) {
    size_t len = strlen(value), most = o->most > 0 ? o->most : PATH_MAX / 2;

    /* Behind a last slash the kernel follows a symlink that O_NOFOLLOW would have refused. */
    while (len > 0 && value[len - 1] == '/')
        len--;
    if (value[0] != '/' || len == 0)
        return -EINVAL;
    if (!text_is_plain(value))
        return -EINVAL;
    return len <= most ? store_string(c, o, value, len) : -ERANGE;
}

static int parse_file(struct config *c, const struct option *o, const char *value) {
    if (value[0] != '/' || !text_is_plain(value))
        return -EINVAL;
    return strlen(value) < PATH_MAX / 2 ? store_string(c, o, value, strlen(value)) : -ERANGE;
}

static int parse_secret(struct config *c, const struct option *o, const char *value) {
    size_t len = 0;

    while ((unsigned char)value[len] > 0x20 && (unsigned char)value[len] < 0x7f)
        len++;
    return len > 0 && value[len] == '\0' ? store_string(c, o, value, len) : -EINVAL;
}

/* "hub+http://…": what stands before the address. */
static const char *after_remote_scheme(const char *item) {
    static const char *const schemes[] = {"hub+", "es+", "otlp+"};

    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (text_starts(item, schemes[i]))
            return item + strlen(schemes[i]);
    return NULL;
}

static bool sink_known(const char *item) {
    const char *address = after_remote_scheme(item);
    struct url url = {0}; /* url_parse leaves it alone on error */

    if (address != NULL) {
        bool good = url_parse(&url, address) == 0;

        url_clear(&url);
        return good;
    }
    if (strcmp(item, "stdout:") == 0 || strcmp(item, "hub:") == 0 || strcmp(item, "file:") == 0)
        return true;
    return text_starts(item, "file:/") && strlen(item) < PATH_MAX / 2;
}

static int parse_sink(struct config *c, const struct option *o, const char *value) {
    const char *p = value;
    char item[SINK_BYTES];
    size_t len;

    if (strcmp(value, "none") == 0)
        return store_string(c, o, value, strlen(value));
    for (;; p += len + 1) {
        len = strcspn(p, ",");
        if (len >= sizeof(item))
            return -ERANGE;
        (void)text_copy(item, len + 1, p);
        if (!sink_known(item))
            return -EINVAL;
        if (p[len] == '\0')
            return store_string(c, o, value, strlen(value));
    }
}

/* CONSUL_HTTP_ADDR, which `consul:` needs, is the helper's business: it names it if it is wrong. */
static int parse_registry(struct config *c, const struct option *o, const char *value) {
    struct registry_address a;
    int rc = registry_address_parse(&a, value, NULL, false, NULL);

    if (rc != 0)
        return rc;
    registry_address_clear(&a);
    return store_string(c, o, value, strlen(value));
}

static int parse_advertise(struct config *c, const struct option *o, const char *value) {
    struct advertise a;
    int rc = advertise_parse(&a, value);

    return rc == 0 ? store_string(c, o, value, strlen(value)) : rc;
}

static int parse_number(struct config *c, const struct option *o, const char *value) {
    uint64_t v;
    int rc = o->kind == OPTION_SIZE ? text_size_bytes(value, &v) : text_duration_ms(value, &v);

    if (rc != 0)
        return rc;
    if (v < o->least || v > o->most)
        return -ERANGE;
    *(uint64_t *)(void *)((char *)c + o->where) = v;
    return 0;
}

static int parse_percent(struct config *c, const struct option *o, const char *value) {
    double share;
    int rc = text_percent(value, &share);

    if (rc != 0)
        return rc;
    if (share * 100 < (double)o->least || share * 100 > (double)o->most)
        return -ERANGE;
    *(double *)(void *)((char *)c + o->where) = share;
    return 0;
}

static int parse_choice(struct config *c, const struct option *o, const char *value) {
    for (int i = 0; o->words[i] != NULL; i++) {
        if (strcmp(o->words[i], value) != 0)
            continue;
        if (o->where == offsetof(struct config, log_level))
            c->log_level = (enum log_level)i;
        else
            c->log_format = (enum log_format)i;
        return 0;
    }
    return -EINVAL;
}

static int parse_reserved(struct config *c, const struct option *o, const char *value) {
    (void)c;
    return o->accepted != NULL && strcmp(o->accepted, value) == 0 ? 0 : -EINVAL;
}

static const struct {
    int (*parse)(struct config *c, const struct option *o, const char *value);
    const char *wrong; /* what is said of a value that is not of this kind */
} kinds[] = {
    [OPTION_NAME] = {parse_name, "is not a name"},
    [OPTION_PATH] = {parse_path, "is not a usable directory name"},
    [OPTION_FILE] = {parse_file, "is not an absolute path"},
    [OPTION_SECRET] = {parse_secret, "is not such a line"},
    [OPTION_SINK] = {parse_sink, "is not a list of sinks that this version has"},
    [OPTION_REGISTRY] = {parse_registry, "is not the address of a registry"},
    [OPTION_ADVERTISE] = {parse_advertise, "is not an address"},
    [OPTION_DURATION] = {parse_number, "is not a duration such as 500ms, 10s or 5m"},
    [OPTION_SIZE] = {parse_number, "is not a size such as 512KiB or 1MiB"},
    [OPTION_PERCENT] = {parse_percent, "is not a percentage such as 90%"},
    [OPTION_CHOICE] = {parse_choice, "is not known"},
    [OPTION_RESERVED] = {parse_reserved, "asks for what this version does not have yet"},
};

int config_parse(struct config *c, const struct option *o, const char *value) {
    return kinds[o->kind].parse(c, o, value);
}

const char *config_wrong(enum option_kind kind) {
    return kinds[kind].wrong;
}
