#include "uploader/artifact_meta.h"

#include <errno.h>
#include <jansson.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/answer.h"

#define FIELD_BYTES     256
#define COMPONENT_BYTES 100
#define ID_LEN          29

void artifact_id(int64_t wall_ms, char ret[ARTIFACT_ID_BYTES]) {
    (void)snprintf(ret, ARTIFACT_ID_BYTES, "%012llx-%016llx",
                   (unsigned long long)wall_ms & 0xffffffffffffULL,
                   (unsigned long long)answer_random(0, UINT64_MAX - 1));
}

bool artifact_is_file(const char *name, const char *suffix, char ret_id[ARTIFACT_ID_BYTES]) {
    if (strlen(name) != ID_LEN + strlen(suffix) || strspn(name, "0123456789abcdef") != 12 ||
        name[12] != '-' || strspn(name + 13, "0123456789abcdef") != 16 ||
        strcmp(name + ID_LEN, suffix) != 0)
        return false;
    (void)text_copy(ret_id, ID_LEN + 1, name);
    return true;
}

/* --- a value ------------------------------------------------------------------------------------ */

/* Members of struct artifact that are text, and their names. */
static const struct {
    const char *name;
    size_t at;
} texts[] = {
    {"app", offsetof(struct artifact, app)},
    {"instance", offsetof(struct artifact, instance)},
    {"worker", offsetof(struct artifact, worker)},
    {"job", offsetof(struct artifact, job)},
    {"kind", offsetof(struct artifact, kind)},
    {"extension", offsetof(struct artifact, extension)},
    {"sha256", offsetof(struct artifact, sha256)},
};

static const char **text_of(struct artifact *a, size_t i) {
    return (const char **)(void *)((char *)a + texts[i].at);
}

static bool is_hash(const char *s) {
    return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

int artifact_meta_init(struct artifact_meta *m, const struct artifact *a) {
    struct artifact copy = *a;
    int rc = 0;

    *m = (struct artifact_meta){.a = *a};
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        *text_of(&m->a, i) = NULL;
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(texts); i++) {
        const char *text = *text_of(&copy, i);

        if (text == NULL || strlen(text) >= FIELD_BYTES)
            rc = -EINVAL;
        else if ((*text_of(&m->a, i) = mem_strdup(text)) == NULL)
            rc = -ENOMEM;
    }
    if (rc == 0 && (!is_hash(m->a.sha256) || *m->a.kind == '\0' || *m->a.extension == '\0'))
        rc = -EINVAL;
    if (rc != 0)
        artifact_meta_clear(m);
    return rc;
}

void artifact_meta_clear(struct artifact_meta *m) {
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        mem_free((void *)(uintptr_t)*text_of(&m->a, i));
    mem_free(m->url);
    mem_free(m->parked);
    *m = (struct artifact_meta){0};
}

/* --- its file ----------------------------------------------------------------------------------- */

static void write_json(const struct artifact_meta *m, struct buf *out) {
    struct artifact copy = m->a;

    buf_puts(out, "{\"pillion_artifact\":1");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        buf_printf(out, ",\"%s\":", texts[i].name);
        buf_json_string(out, *text_of(&copy, i));
    }
    buf_printf(out, ",\"pid\":%lld,\"time_ms\":%lld,\"bytes\":%llu", (long long)m->a.pid,
               (long long)m->a.time_ms, (unsigned long long)m->a.bytes);
    if (m->url != NULL) {
        buf_puts(out, ",\"url\":");
        buf_json_string(out, m->url);
    }
    if (m->parked != NULL) {
        buf_puts(out, ",\"parked\":");
        buf_json_string(out, m->parked);
    }
    buf_puts(out, "}\n");
}

int artifact_meta_save(const struct artifact_meta *m, int dirfd, const char *id) {
    char name[ARTIFACT_ID_BYTES + 8];
    struct buf text;
    int rc;

    (void)snprintf(name, sizeof(name), "%.29s.json", id);
    buf_init(&text, ARTIFACT_META_BYTES - 1);
    write_json(m, &text);
    rc = text.err != 0 ? text.err : fs_write_at(dirfd, name, text.data, text.len, 0600);
    buf_clear(&text);
    return rc;
}

static bool whole_number(const json_t *doc, const char *name, int64_t *ret) {
    const json_t *v = json_object_get(doc, name);

    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *ret = json_integer_value(v);
    return true;
}

static int read_json(struct artifact_meta *m, const json_t *doc) {
    struct artifact a = {0};
    int64_t version = 0, pid = 0, time_ms = 0, bytes = 0;
    const char *url = json_string_value(json_object_get(doc, "url"));
    const char *parked = json_string_value(json_object_get(doc, "parked"));
    int rc;

    if (!whole_number(doc, "pillion_artifact", &version) || version != 1 ||
        !whole_number(doc, "pid", &pid) || pid > INT32_MAX ||
        !whole_number(doc, "time_ms", &time_ms) || !whole_number(doc, "bytes", &bytes))
        return -EBADMSG;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        *text_of(&a, i) = json_string_value(json_object_get(doc, texts[i].name));
    a.pid = (pid_t)pid;
    a.time_ms = time_ms;
    a.bytes = (uint64_t)bytes;
    rc = artifact_meta_init(m, &a);
    if (rc != 0)
        return rc == -EINVAL ? -EBADMSG : rc;
    if ((url != NULL && (m->url = mem_strdup(url)) == NULL) ||
        (parked != NULL && (m->parked = mem_strdup(parked)) == NULL)) {
        artifact_meta_clear(m);
        return -ENOMEM;
    }
    return 0;
}

int artifact_meta_load(struct artifact_meta *m, int dirfd, const char *id) {
    char name[ARTIFACT_ID_BYTES + 8], text[ARTIFACT_META_BYTES];
    json_error_t error;
    json_t *doc;
    ssize_t n;
    int rc;

    (void)snprintf(name, sizeof(name), "%.29s.json", id);
    n = fs_read_at(dirfd, name, text, sizeof(text));
    if (n < 0)
        return (int)n;
    doc = json_loadb(text, (size_t)n, JSON_REJECT_DUPLICATES, &error);
    if (doc == NULL)
        return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
    rc = read_json(m, doc);
    json_decref(doc);
    return rc;
}

/* --- outward ------------------------------------------------------------------------------------ */

void artifact_message(const struct artifact_meta *m, struct buf *out) {
    char time[CLOCK_ISO_BYTES];

    clock_iso(m->a.time_ms, time);
    buf_puts(out, "{\"event\":\"artifact_ready\",\"app\":");
    buf_json_string(out, m->a.app);
    buf_puts(out, ",\"instance\":");
    buf_json_string(out, m->a.instance);
    buf_puts(out, ",\"worker\":");
    buf_json_string(out, m->a.worker);
    buf_puts(out, ",\"job\":");
    buf_json_string(out, m->a.job);
    buf_puts(out, ",\"kind\":");
    buf_json_string(out, m->a.kind);
    buf_puts(out, ",\"url\":");
    buf_json_string(out, m->url != NULL ? m->url : "");
    buf_printf(out, ",\"bytes\":%llu,\"sha256\":\"%s\",\"time\":\"%s\"}",
               (unsigned long long)m->a.bytes, m->a.sha256, time);
}

/* Safe in every store: letters, digits, "._-=@+,"; never empty, hidden or a way up. */
static void add_component(struct buf *out, const char *text) {
    size_t n = 0;

    if (*text == '\0')
        buf_putc(out, '_');
    for (; *text != '\0' && n < COMPONENT_BYTES; text++, n++) {
        bool fine = strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-=@+,",
                           *text) != NULL;

        buf_putc(out, fine || (*text == '.' && n > 0) ? *text : '_');
    }
}

int artifact_key(const struct artifact *a, char *out, size_t size) {
    time_t s = (time_t)(a->time_ms / 1000);
    char day[16], at[24];
    struct buf key;
    struct tm tm;
    int rc;

    if (gmtime_r(&s, &tm) == NULL || tm.tm_year > 8099)
        return -EINVAL;
    (void)strftime(day, sizeof(day), "%Y-%m-%d", &tm);
    (void)strftime(at, sizeof(at), "%Y%m%dT%H%M%SZ", &tm);
    buf_init(&key, size - 1);
    add_component(&key, a->app);
    buf_putc(&key, '/');
    add_component(&key, a->instance);
    buf_printf(&key, "/%s/", day);
    add_component(&key, a->kind);
    buf_printf(&key, "-%ld-%s-", (long)a->pid, at);
    add_component(&key, a->job);
    buf_putc(&key, '.');
    add_component(&key, a->extension);
    rc = key.err == -ENOBUFS ? -ENAMETOOLONG : key.err;
    if (rc == 0)
        (void)text_copy(out, size, key.data);
    buf_clear(&key);
    return rc;
}

const char *artifact_type(const char *extension) {
    static const struct {
        const char *ending, *type;
    } types[] = {
        {".gz", "application/gzip"},  {"html", "text/html; charset=utf-8"},
        {"json", "application/json"}, {"txt", "text/plain; charset=utf-8"},
        {"svg", "image/svg+xml"},
    };
    size_t len = strlen(extension);

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        size_t n = strlen(types[i].ending);

        if (len >= n && strcmp(extension + len - n, types[i].ending) == 0)
            return types[i].type;
    }
    return "application/octet-stream";
}
