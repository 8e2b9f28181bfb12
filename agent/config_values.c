/* config_values.c - from the text of one variable to its place in struct config, by the kind of its row. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>

#include "agent/advertise.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/config_table.h"
#include "collectors/capture.h"
#include "uploader/registry/address.h"
#include "uploader/url.h"

#define SINK_BYTES       4200
#define KEEP_BYTES_LEAST (1024ull * 1024)
#define KEEP_BYTES_MOST  (1024ull * 1024 * 1024 * 1024)
#define KEEP_MS_LEAST    60000ull
#define KEEP_MS_MOST     (365ull * 24 * 3600 * 1000)

/* By enum capture_action. Also the init process reads the configuration, and it has nothing of captures in it. */
static const char *const actions_names[] = {
    [CAPTURE_HEAP_SNAPSHOT] = "heap_snapshot",
    [CAPTURE_HEAP_HISTOGRAM] = "heap_histogram",
    [CAPTURE_CPU_PROFILE] = "cpu_profile",
    [CAPTURE_HEAP_PROFILE] = "heap_profile",
    [CAPTURE_GC_TRACE] = "gc_trace",
    [CAPTURE_REPORT] = "report",
    [CAPTURE_STACK] = "stack",
};

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
    if (len == 0 || value[len] != '\0')
        return -EINVAL;
    if (len < o->least || (o->most > 0 && len > o->most))
        return -ERANGE;
    return store_string(c, o, value, len);
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

/* --- the command port ------------------------------------------------------------------------------------------------------ */

int config_listen(const char *text, char ret_ip[CONFIG_IP_BYTES], uint16_t *ret_port) {
    const char *end = strrchr(text, ':'), *port = end != NULL ? end + 1 : "";
    bool brackets = text[0] == '[';
    struct in6_addr ip;
    uint64_t n;

    if (end == NULL || text_u64(port, &n) != 0 || n < 1 || n > UINT16_MAX)
        return -EINVAL;
    if (brackets && (end == text || *--end != ']'))
        return -EINVAL;
    text += brackets;
    if (end <= text || end - text >= CONFIG_IP_BYTES)
        return -EINVAL;
    (void)text_copy(ret_ip, (size_t)(end - text) + 1, text);
    if (strcmp(ret_ip, "localhost") == 0)
        (void)text_copy(ret_ip, CONFIG_IP_BYTES, "127.0.0.1");
    if (inet_pton(brackets ? AF_INET6 : AF_INET, ret_ip, &ip) != 1)
        return -EINVAL;
    *ret_port = (uint16_t)n;
    return 0;
}

bool config_listen_is_local(const char *ip) {
    return strcmp(ip, "::1") == 0 || text_starts(ip, "127.");
}

static int parse_listen(struct config *c, const struct option *o, const char *value) {
    char ip[CONFIG_IP_BYTES];
    uint16_t port;

    if (strcmp(value, "none") != 0 && config_listen(value, ip, &port) != 0)
        return -EINVAL;
    return store_string(c, o, value, strlen(value));
}

/* --- captures ---------------------------------------------------------------------------------------------------------------- */

static bool starts_with_one_of(const char *value, const char *const *schemes) {
    for (; *schemes != NULL; schemes++)
        if (text_starts(value, *schemes) && value[strlen(*schemes)] != '\0')
            return true;
    return false;
}

/* The details are the store's business, which names them at the start. */
static int parse_store(struct config *c, const struct option *o, const char *value) {
    static const char *const schemes[] = {
        "file:/", "http://", "https://", "webdav+http://", "webdav+https://", "s3://", NULL};

    if (strcmp(value, "file:") != 0 && !starts_with_one_of(value, schemes))
        return -EINVAL;
    if (!text_is_plain(value))
        return -EINVAL;
    return strlen(value) < PATH_MAX / 2 ? store_string(c, o, value, strlen(value)) : -ERANGE;
}

static int parse_notify(struct config *c, const struct option *o, const char *value) {
    static const char *const schemes[] = {"amqp://", "amqps://", "http://", "https://", NULL};

    if (strcmp(value, "none") == 0)
        return store_string(c, o, value, strlen(value));
    if (!text_is_plain(value))
        return -EINVAL;
    for (const char *p = value;; p++) {
        if (!starts_with_one_of(p, schemes))
            return -EINVAL;
        p += strcspn(p, ",");
        if (*p == '\0')
            return store_string(c, o, value, strlen(value));
    }
}

/* Names by their bits, with commas; no name twice. */
static int parse_actions(struct config *c, const struct option *o, const char *value) {
    unsigned actions = 0;
    char name[32];

    for (const char *p = value; strcmp(value, "none") != 0; p++) {
        size_t len = strcspn(p, ",");
        unsigned bit = 0;

        if (len < sizeof(name))
            (void)text_copy(name, len + 1, p);
        for (unsigned i = 0; len < sizeof(name) && i < ARRAY_LEN(actions_names); i++)
            if (strcmp(actions_names[i], name) == 0)
                bit = 1u << i;
        if ((bit & o->most) == 0 || (bit & actions) != 0)
            return -EINVAL;
        actions |= bit;
        p += len;
        if (*p == '\0')
            break;
    }
    *(unsigned *)(void *)((char *)c + o->where) = actions;
    return 0;
}

void config_write_actions(unsigned actions, char *out, size_t size) {
    size_t len = 0;

    (void)text_copy(out, size, "none");
    for (unsigned i = 0; i < ARRAY_LEN(actions_names); i++)
        if ((actions & (1u << i)) != 0 && len < size)
            len += (size_t)snprintf(out + len, size - len, "%s%s", len > 0 ? "," : "",
                                    actions_names[i]);
}

static int parse_rate(struct config *c, const struct option *o, const char *value) {
    size_t len = strlen(value);
    char number[16];
    uint64_t n;

    if (len < 3 || len - 2 >= sizeof(number) || strcmp(value + len - 2, "/h") != 0)
        return -EINVAL;
    (void)text_copy(number, len - 1, value);
    if (text_u64(number, &n) != 0)
        return -EINVAL;
    if (n < o->least || n > o->most)
        return -ERANGE;
    *(unsigned *)(void *)((char *)c + o->where) = (unsigned)n;
    return 0;
}

static int parse_keep(struct config *c, const struct option *o, const char *value) {
    struct config_keep *where = (struct config_keep *)(void *)((char *)c + o->where), keep;
    size_t len = strcspn(value, ",");
    char size[32];

    if (value[len] == '\0' || len >= sizeof(size))
        return -EINVAL;
    (void)text_copy(size, len + 1, value);
    if (text_size_bytes(size, &keep.bytes) != 0 || text_duration_ms(value + len + 1, &keep.ms) != 0)
        return -EINVAL;
    if (keep.bytes < KEEP_BYTES_LEAST || keep.bytes > KEEP_BYTES_MOST || keep.ms < KEEP_MS_LEAST ||
        keep.ms > KEEP_MS_MOST)
        return -ERANGE;
    *where = keep;
    return 0;
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
    [OPTION_LISTEN] = {parse_listen, "is not an address with a port"},
    [OPTION_STORE] = {parse_store, "is not a file store that this version has"},
    [OPTION_NOTIFY] = {parse_notify, "is not such a list"},
    [OPTION_ACTIONS] = {parse_actions, "is not a list of what can be captured then"},
    [OPTION_RATE] = {parse_rate, "is not a number an hour such as 6/h"},
    [OPTION_KEEP] = {parse_keep, "is not a size and a duration such as 1GiB,7d"},
};

int config_parse(struct config *c, const struct option *o, const char *value) {
    return kinds[o->kind].parse(c, o, value);
}

const char *config_wrong(enum option_kind kind) {
    return kinds[kind].wrong;
}
