#include "uploader/sinks/otlp_write.h"

#include <errno.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/sinks/otlp_names.h"
#include "uploader/sinks/protobuf.h"

#define TEXT_BYTES    1024
#define VALUE_BYTES   8192
#define NS            1000000000u
#define MOST_WHOLE    9007199254740992.0 /* 2^53 */
#define CUMULATIVE    2
#define SEVERITY_INFO 9
#define SEVERITY_WARN 13

/* What stands before the numbers of a record. */
struct about {
    uint64_t time_ns, start_ns;
    long pid, thread;
    char worker[80], role[32];
    bool process;
};

/* --- when things began -------------------------------------------------------------------------- */

static uint64_t read_boot_ns(void) {
    char line[256];
    uint64_t s = 0;
    FILE *f = fopen("/proc/stat", "re");

    while (f != NULL && s == 0 && fgets(line, sizeof(line), f) != NULL)
        if (text_starts(line, "btime "))
            s = strtoull(line + strlen("btime "), NULL, 10);
    if (f != NULL)
        (void)fclose(f); /* was only read */
    return s > 0 ? s * NS : (uint64_t)(clock_wall_ms() - (int64_t)clock_boot_ms()) * 1000000u;
}

/* Field 22 of /proc/1/stat, behind the name in brackets. */
static uint64_t read_start_ticks(void) {
    char text[1024], *p;
    FILE *f = fopen("/proc/1/stat", "re");
    size_t n = f != NULL ? fread(text, 1, sizeof(text) - 1, f) : 0;

    if (f != NULL)
        (void)fclose(f); /* was only read */
    text[n] = '\0';
    p = strrchr(text, ')');
    for (int i = 0; p != NULL && i < 20; i++)
        p = strchr(p + 1, ' ');
    return p != NULL ? strtoull(p + 1, NULL, 10) : 0;
}

void otlp_clock_read(struct otlp_clock *c) {
    long ticks = sysconf(_SC_CLK_TCK);

    c->tick_ns = NS / (uint64_t)(ticks > 0 ? ticks : 100);
    c->boot_ns = read_boot_ns();
    c->container_ns = c->boot_ns + read_start_ticks() * c->tick_ns;
}

/* "2026-11-23T14:19:56.123Z" */
static bool parse_time(const char *s, uint64_t *ret_ns) {
    struct tm tm = {0};
    unsigned ms = 0;
    char zone = 0;

    if (sscanf(s, "%4d-%2d-%2dT%2d:%2d:%2d.%3u%c", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &ms, &zone) != 8 ||
        zone != 'Z' || tm.tm_year < 1970)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *ret_ns = (uint64_t)timegm(&tm) * NS + ms * 1000000u;
    return true;
}

/* --- attributes --------------------------------------------------------------------------------- */

static void put_string_attribute(struct buf *b, unsigned field, const char *key, size_t key_len,
                                 const char *value, size_t len) {
    size_t attribute = pb_open(b, field), any;

    pb_bytes(b, 1, key, key_len);
    any = pb_open(b, 2);
    pb_bytes(b, 1, value, len);
    pb_close(b, any);
    pb_close(b, attribute);
}

static void put_text(struct buf *b, unsigned field, const char *key, const char *value) {
    put_string_attribute(b, field, key, strlen(key), value, strlen(value));
}

static void put_int(struct buf *b, unsigned field, const char *key, int64_t value) {
    size_t attribute = pb_open(b, field), any;

    pb_string(b, 1, key);
    any = pb_open(b, 2);
    pb_uint(b, 3, (uint64_t)value);
    pb_close(b, any);
    pb_close(b, attribute);
}

/* a=b,c=d as attributes; what comes from `le` on is not one. */
static void put_attributes(struct buf *b, unsigned field, const char *p, size_t n) {
    const char *end = p + n;

    while (p < end) {
        const char *stop = memchr(p, ',', (size_t)(end - p)), *equals;

        if (stop == NULL)
            stop = end;
        equals = memchr(p, '=', (size_t)(stop - p));
        if (equals != NULL)
            put_string_attribute(b, field, p, (size_t)(equals - p), equals + 1,
                                 (size_t)(stop - equals - 1));
        p = stop + 1;
    }
}

/* --- the resource ------------------------------------------------------------------------------- */

/* What cannot be a count or a number of a process is 0. */
static long whole(double v) {
    return v > 0 && v < MOST_WHOLE ? (long)v : 0;
}

static int read_about(struct about *ret, const struct otlp_clock *clock, const char *text,
                      size_t len) {
    char value[80], *colon;
    const char *p = NULL;
    struct member m;
    double number;
    int rc;

    *ret = (struct about){0};
    while ((rc = member_next(text, len, &p, &m)) == 1) {
        if (member_is(&m, "time") && member_text(&m, value, sizeof(value)))
            (void)parse_time(value, &ret->time_ns);
        else if (member_is(&m, "worker"))
            (void)member_text(&m, ret->worker, sizeof(ret->worker));
        else if (member_is(&m, "role"))
            (void)member_text(&m, ret->role, sizeof(ret->role));
        else if (member_is(&m, "pid") && member_number(&m, &number))
            ret->pid = whole(number);
        else if (member_is(&m, "thread") && member_number(&m, &number))
            ret->thread = whole(number);
        else if (memchr(m.key, '.', m.key_len) != NULL)
            break; /* the numbers begin */
    }
    if (rc < 0 || ret->time_ns == 0)
        return -EBADMSG;
    colon = strchr(ret->worker, ':'); /* "pid:start" or "pid:start/thread" */
    ret->process = colon != NULL;
    ret->start_ns = colon != NULL ? clock->boot_ns + strtoull(colon + 1, NULL, 10) * clock->tick_ns
                                  : clock->container_ns;
    if (ret->start_ns > ret->time_ns)
        ret->start_ns = ret->time_ns;
    return 0;
}

static void put_resource(struct buf *b, const struct records_head *head, const struct about *a) {
    size_t resource = pb_open(b, 1);
    char id[TEXT_BYTES], when[CLOCK_ISO_BYTES];

    (void)snprintf(id, sizeof(id), a->process ? "%s/%s" : "%s", head->instance, a->worker);
    put_text(b, 1, "service.name", head->app);
    put_text(b, 1, "service.instance.id", id);
    put_text(b, 1, "pillion.instance", head->instance);
    if (a->process) {
        clock_iso((int64_t)(a->start_ns / 1000000u), when);
        put_int(b, 1, "process.pid", a->pid);
        put_text(b, 1, "process.creation.time", when);
        put_text(b, 1, "process.runtime.name", "nodejs");
        put_text(b, 1, "pillion.worker", a->worker);
        put_text(b, 1, "pillion.role", a->role);
    }
    if (a->thread != 0)
        put_int(b, 1, "thread.id", a->thread);
    pb_close(b, resource);
}

static void put_scope(struct buf *b) {
    size_t scope = pb_open(b, 1);

    pb_string(b, 1, "pillion");
    pb_string(b, 2, PILLION_VERSION);
    pb_close(b, scope);
}

/* --- metrics ------------------------------------------------------------------------------------ */

/* A key in its parts: name, attributes without braces, `le`. */
struct key {
    const char *name, *attributes, *le;
    size_t name_len, attributes_len, le_len;
};

static void split_key(const struct member *m, struct key *ret) {
    const char *brace = memchr(m->key, '{', m->key_len), *le;
    size_t n;

    *ret = (struct key){.name = m->key, .name_len = m->key_len, .attributes = ""};
    if (brace == NULL || m->key[m->key_len - 1] != '}')
        return;
    ret->name_len = (size_t)(brace - m->key);
    ret->attributes = brace + 1;
    ret->attributes_len = n = m->key_len - ret->name_len - 2;
    le = n >= 3 && memcmp(brace + 1, "le=", 3) == 0 ? brace + 1 : memmem(brace + 1, n, ",le=", 4);
    if (le == NULL)
        return;
    ret->attributes_len = (size_t)(le - ret->attributes);
    ret->le = le + (*le == ',' ? 4 : 3);
    ret->le_len = (size_t)(brace + 1 + n - ret->le);
}

static bool ends_with(const struct key *k, const char *suffix) {
    size_t n = strlen(suffix);

    return k->name_len > n && memcmp(k->name + k->name_len - n, suffix, n) == 0;
}

struct histogram {
    bool open;
    struct key base; /* without ".bucket" */
    unsigned n_counts, n_bounds;
    uint64_t counts[LIMIT_BOUNDS + 1];
    double bounds[LIMIT_BOUNDS];
    double sum;
    bool has_sum;
};

struct writer {
    struct buf *b;
    const struct about *about;
    struct histogram h;
    /* The metric that is open: points of one name that follow each other belong to one. */
    struct key open;
    const struct otlp_name *open_name; /* NULL: none */
    bool open_histogram;
    size_t metric, data;
};

/* One of a packed list. */
static void put_packed(struct buf *b, uint64_t bits_of) {
    unsigned char bytes[8];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(bits_of >> (8 * i));
    buf_add(b, bytes, sizeof(bytes));
}

static void close_metric(struct writer *w) {
    if (w->open_name == NULL)
        return;
    if (w->open_histogram || w->open_name->kind != OTLP_GAUGE)
        pb_uint(w->b, 2, CUMULATIVE);
    if (!w->open_histogram && w->open_name->kind != OTLP_GAUGE)
        pb_uint(w->b, 3, w->open_name->kind == OTLP_COUNTER);
    pb_close(w->b, w->data);
    pb_close(w->b, w->metric);
    w->open_name = NULL;
}

static void open_metric(struct writer *w, const struct key *k, bool histogram) {
    if (w->open_name != NULL && w->open_histogram == histogram && w->open.name_len == k->name_len &&
        memcmp(w->open.name, k->name, k->name_len) == 0)
        return;
    close_metric(w);
    w->open = *k;
    w->open_histogram = histogram;
    w->open_name = otlp_name_find(k->name, k->name_len);
    w->metric = pb_open(w->b, 2);
    pb_bytes(w->b, 1, k->name, k->name_len);
    if (w->open_name->unit[0] != '\0')
        pb_string(w->b, 3, w->open_name->unit);
    w->data = pb_open(w->b, histogram ? 9 : w->open_name->kind == OTLP_GAUGE ? 5 : 7);
}

static void put_point(struct writer *w, const struct key *k, double value) {
    size_t point;

    open_metric(w, k, false);
    point = pb_open(w->b, 1);
    if (w->open_name->kind != OTLP_GAUGE)
        pb_fixed64(w->b, 2, w->about->start_ns);
    pb_fixed64(w->b, 3, w->about->time_ns);
    pb_double(w->b, 4, value);
    put_attributes(w->b, 7, k->attributes, k->attributes_len);
    pb_close(w->b, point);
}

static void put_histogram(struct writer *w) {
    struct histogram *h = &w->h;
    size_t point, list;
    uint64_t count = 0, bits;

    if (!h->open)
        return;
    h->open = false;
    open_metric(w, &h->base, true);
    point = pb_open(w->b, 1);
    pb_fixed64(w->b, 2, w->about->start_ns);
    pb_fixed64(w->b, 3, w->about->time_ns);
    for (unsigned i = 0; i < h->n_counts; i++)
        count += h->counts[i];
    pb_fixed64(w->b, 4, count);
    if (h->has_sum)
        pb_double(w->b, 5, h->sum);
    list = pb_open(w->b, 6);
    for (unsigned i = 0; i < h->n_counts; i++)
        put_packed(w->b, h->counts[i]);
    pb_close(w->b, list);
    list = pb_open(w->b, 7);
    for (unsigned i = 0; i < h->n_bounds; i++) {
        memcpy(&bits, &h->bounds[i], sizeof(bits));
        put_packed(w->b, bits);
    }
    pb_close(w->b, list);
    put_attributes(w->b, 9, h->base.attributes, h->base.attributes_len);
    pb_close(w->b, point);
}

static bool same_series(const struct key *a, const struct key *b, size_t cut) {
    return a->name_len == b->name_len - cut && memcmp(a->name, b->name, a->name_len) == 0 &&
           a->attributes_len == b->attributes_len &&
           memcmp(a->attributes, b->attributes, a->attributes_len) == 0;
}

/* A part of a histogram; false: it is none. */
static bool take_histogram(struct writer *w, const struct key *k, double value) {
    struct histogram *h = &w->h;
    size_t cut = strlen(".bucket");
    char bound[BUF_NUMBER_BYTES + 1];

    if (k->le == NULL || !ends_with(k, ".bucket")) {
        if (h->open && ends_with(k, ".sum") && same_series(&h->base, k, strlen(".sum"))) {
            h->sum = value;
            h->has_sum = true;
            return true;
        }
        return h->open && ends_with(k, ".count") && same_series(&h->base, k, strlen(".count"));
    }
    if (!h->open || !same_series(&h->base, k, cut)) {
        put_histogram(w);
        *h = (struct histogram){.open = true, .base = *k};
        h->base.name_len -= cut;
    }
    if (h->n_counts <= LIMIT_BOUNDS)
        h->counts[h->n_counts++] = (uint64_t)whole(value);
    if (k->le_len < sizeof(bound) && strchr("-.0123456789", k->le[0]) != NULL &&
        h->n_bounds < LIMIT_BOUNDS) {
        memcpy(bound, k->le, k->le_len);
        bound[k->le_len] = '\0';
        h->bounds[h->n_bounds++] = strtod(bound, NULL);
    }
    return true;
}

/* A number that is not part of a histogram. */
struct point {
    struct key key;
    double value;
    unsigned order;
};

/* Points of one name belong to one metric; in a record those of another may stand between them. */
static int by_name(const void *a, const void *b) {
    const struct point *p = a, *q = b;
    size_t n = p->key.name_len < q->key.name_len ? p->key.name_len : q->key.name_len;
    int order = memcmp(p->key.name, q->key.name, n);

    if (order == 0 && p->key.name_len != q->key.name_len)
        order = p->key.name_len < q->key.name_len ? -1 : 1;
    return order != 0 ? order : (p->order > q->order) - (p->order < q->order);
}

/* Histograms stand together and are written at once; *ret_n others are put into `points`. */
static int collect(struct writer *w, const char *text, size_t len, struct point *points,
                   unsigned *ret_n) {
    const char *p = NULL;
    struct member m;
    struct key k;
    double value;
    int rc;

    while ((rc = member_next(text, len, &p, &m)) == 1) {
        if (memchr(m.key, '.', m.key_len) == NULL || !member_number(&m, &value))
            continue; /* who and when; or not a number */
        split_key(&m, &k);
        if (take_histogram(w, &k, value))
            continue;
        put_histogram(w);
        if (*ret_n == LIMIT_SLOTS)
            return -EBADMSG;
        points[*ret_n] = (struct point){.key = k, .value = value, .order = *ret_n};
        ++*ret_n;
    }
    put_histogram(w);
    return rc;
}

int otlp_write_metrics(struct buf *out, const struct records_head *head,
                       const struct otlp_clock *clock, const char *text, size_t len) {
    struct writer w = {.b = out};
    struct point *points = NULL;
    struct about about;
    size_t resource, scope;
    unsigned n = 0;
    int rc = read_about(&about, clock, text, len);

    if (rc != 0)
        return rc;
    points = mem_alloc(LIMIT_SLOTS * sizeof(*points));
    if (points == NULL)
        return -ENOMEM;
    w.about = &about;
    resource = pb_open(out, 1);
    put_resource(out, head, &about);
    scope = pb_open(out, 2);
    put_scope(out);
    rc = collect(&w, text, len, points, &n);
    qsort(points, n, sizeof(*points), by_name);
    for (unsigned i = 0; i < n; i++)
        put_point(&w, &points[i].key, points[i].value);
    close_metric(&w);
    pb_close(out, scope);
    pb_close(out, resource);
    mem_free(points);
    return rc < 0 ? -EBADMSG : 0;
}

/* --- logs --------------------------------------------------------------------------------------- */

bool otlp_is_event(const char *text, size_t len) {
    const char *p = NULL;
    char kind[16];
    struct member m;

    while (member_next(text, len, &p, &m) == 1)
        if (member_is(&m, "kind"))
            return !member_text(&m, kind, sizeof(kind)) ||
                   (strcmp(kind, "process") != 0 && strcmp(kind, "container") != 0);
    return true;
}

static void put_event_attribute(struct buf *b, const struct member *m) {
    char value[VALUE_BYTES];
    double number;
    size_t attribute = pb_open(b, 6), any;

    pb_bytes(b, 1, m->key, m->key_len);
    any = pb_open(b, 2);
    if (member_text(m, value, sizeof(value)))
        pb_string(b, 1, value);
    else if (m->value_len == 4 && memcmp(m->value, "true", 4) == 0)
        pb_uint(b, 2, 1);
    else if (m->value_len == 5 && memcmp(m->value, "false", 5) == 0)
        pb_uint(b, 2, 0);
    else if (member_number(m, &number) && memchr(m->value, '.', m->value_len) == NULL &&
             number >= 0 && number < MOST_WHOLE)
        pb_uint(b, 3, (uint64_t)number);
    else if (member_number(m, &number))
        pb_double(b, 4, number);
    else
        pb_bytes(b, 1, m->value, m->value_len); /* a list or an object, as its text */
    pb_close(b, any);
    pb_close(b, attribute);
}

static bool is_bad_news(const char *event) {
    static const char *const names[] = {"exited", "blocked", "memory", "silent"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(names[i], event) == 0)
            return true;
    return false;
}

static void put_log_record(struct buf *b, const struct about *about, const char *text, size_t len) {
    size_t record = pb_open(b, 2), body;
    char event[64] = "event", said[VALUE_BYTES] = "";
    const char *p = NULL;
    struct member m;

    while (member_next(text, len, &p, &m) == 1) {
        if (member_is(&m, "event"))
            (void)member_text(&m, event, sizeof(event));
        else if (member_is(&m, "text"))
            (void)member_text(&m, said, sizeof(said));
        else if (!member_is(&m, "time") && !member_is(&m, "worker") && !member_is(&m, "pid") &&
                 !member_is(&m, "role") && !member_is(&m, "thread"))
            put_event_attribute(b, &m);
    }
    pb_fixed64(b, 1, about->time_ns);
    pb_fixed64(b, 11, about->time_ns);
    pb_uint(b, 2, is_bad_news(event) ? SEVERITY_WARN : SEVERITY_INFO);
    pb_string(b, 3, is_bad_news(event) ? "WARN" : "INFO");
    body = pb_open(b, 5);
    pb_string(b, 1, said[0] != '\0' ? said : event);
    pb_close(b, body);
    pb_string(b, 12, event);
    pb_close(b, record);
}

int otlp_write_log(struct buf *out, const struct records_head *head, const struct otlp_clock *clock,
                   const char *text, size_t len) {
    struct about about;
    size_t resource, scope;
    int rc = read_about(&about, clock, text, len);

    if (rc != 0)
        return rc;
    resource = pb_open(out, 1);
    put_resource(out, head, &about);
    scope = pb_open(out, 2);
    put_scope(out);
    put_log_record(out, &about, text, len);
    pb_close(out, scope);
    pb_close(out, resource);
    return 0;
}
