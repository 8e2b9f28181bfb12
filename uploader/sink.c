#include "uploader/sink.h"

#include <errno.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/sinks/elasticsearch.h"
#include "uploader/sinks/file.h"
#include "uploader/sinks/hub.h"
#include "uploader/sinks/otlp.h"
#include "uploader/sinks/stdout.h"

#define ACCEPTED                                                                                    \
    "accepted are hub:, hub+http(s)://…, es+http(s)://…, otlp+http(s)://…, file:, file:DIR, " \
    "stdout: and none; several with commas"
#define SPEC_MAX 4200

static int make_hub_of_registry(struct sink **ret, const struct sink_env *env, const char *rest,
                                struct buf *why) {
    if (*rest != '\0') {
        buf_puts(why, "PILLION_SINK: nothing may follow \"hub:\"; with an address it is "
                      "hub+http(s)://host[:port]");
        return -EINVAL;
    }
    return sink_hub_new(ret, env, NULL, why);
}

static const struct scheme {
    const char *prefix;
    bool remote;
    int (*make)(struct sink **ret, const struct sink_env *env, const char *rest, struct buf *why);
} schemes[] = {
    {"file:", false, sink_file_new},       {"stdout:", false, sink_stdout_new},
    {"hub:", true, make_hub_of_registry},  {"hub+", true, sink_hub_new},
    {"es+", true, sink_elasticsearch_new}, {"otlp+", true, sink_otlp_new},
};

/* The part of a spec that can be shown: an address may hold a password. */
static void put_spec(struct buf *why, const char *spec) {
    const char *address = strstr(spec, "://"), *at = strchr(spec, '@');
    size_t show = address != NULL ? (size_t)(address - spec) + 3
                  : at != NULL    ? strcspn(spec, ":@")
                                  : strlen(spec);
    char shown[64]; /* enough to find it again */

    (void)text_copy(shown, show < sizeof(shown) ? show + 1 : sizeof(shown), spec);
    buf_printf(why, "PILLION_SINK: \"%s%s\"", shown, strlen(shown) < strlen(spec) ? "…" : "");
}

static const struct scheme *find_scheme(const char *spec) {
    for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
        if (text_starts(spec, schemes[i].prefix))
            return &schemes[i];
    return NULL;
}

static int make_one(struct sink **ret, const char *spec, const struct sink_env *env,
                    struct buf *why) {
    const struct scheme *scheme = find_scheme(spec);

    if (*spec == '\0') {
        buf_puts(why, "PILLION_SINK: an entry is empty; " ACCEPTED);
        return -EINVAL;
    }
    if (scheme != NULL && (!scheme->remote || env->http != NULL))
        return scheme->make(ret, env, spec + strlen(scheme->prefix), why);
    put_spec(why, spec);
    if (scheme != NULL)
        buf_puts(why, " needs the network, which this process does not use");
    else
        buf_puts(why, strcmp(spec, "none") == 0 ? " cannot stand beside another sink; " ACCEPTED
                                                : " is not a sink; " ACCEPTED);
    return -EINVAL;
}

static int add_one(struct sink **sinks, unsigned *n, const char *spec, const struct sink_env *env,
                   struct buf *why) {
    struct sink *s;
    int rc;

    if (*n == LIMIT_SINKS) {
        buf_printf(why, "PILLION_SINK: more than %d sinks", LIMIT_SINKS);
        return -EINVAL;
    }
    rc = make_one(&s, spec, env, why);
    if (rc != 0)
        return rc;
    sinks[(*n)++] = s; /* the caller frees what is in the array */
    for (unsigned i = 0; i + 1 < *n; i++)
        if (strcmp(sinks[i]->name, s->name) == 0) {
            buf_printf(why, "PILLION_SINK: %s is named twice", s->name);
            return -EINVAL;
        }
    return 0;
}

static const char *trim(char *s) {
    size_t len;

    s += strspn(s, " \t");
    len = strlen(s);
    while (len > 0 && strchr(" \t", s[len - 1]) != NULL)
        s[--len] = '\0';
    return s;
}

bool sink_list_is_remote(const char *list) {
    const struct scheme *scheme;

    for (const char *p = list; p != NULL; p = strchr(p, ',')) {
        p += strspn(p, ", \t");
        scheme = find_scheme(p);
        if (scheme != NULL && scheme->remote)
            return true;
    }
    return false;
}

int sink_list_new(struct sink **sinks, unsigned *ret_n, const char *list,
                  const struct sink_env *env, struct buf *why) {
    char spec[SPEC_MAX];
    const char *p = list, *trimmed;
    unsigned n = 0;
    int rc = 0;

    while (rc == 0) {
        size_t len = strcspn(p, ",");

        if (len >= sizeof(spec)) {
            buf_puts(why, "PILLION_SINK: an entry is too long");
            rc = -EINVAL;
            break;
        }
        memcpy(spec, p, len);
        spec[len] = '\0';
        trimmed = trim(spec);
        if (strcmp(trimmed, "none") == 0 && len == strlen(list))
            break;
        rc = add_one(sinks, &n, trimmed, env, why);
        if (p[len] == '\0')
            break;
        p += len + 1;
    }
    while (rc != 0 && n > 0) {
        n--;
        sinks[n]->ops->free(sinks[n]);
    }
    if (rc == 0)
        *ret_n = n;
    return rc;
}
