/* Whole: each push goes through the states of reader.h in turn; the nodes are folded by class (classes.c), the edges counted, the
 * names taken when the strings come. Not whole: the first thing that is wrong sticks, with its byte. */
#include "collectors/heapsnapshot/heapsnapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

#include "agent/base/mem.h"
#include "collectors/heapsnapshot/reader.h"

int reader_wrong(struct heapsnapshot *h, uint64_t at, const char *fmt, ...) {
    va_list args;
    int n = snprintf(h->error, sizeof(h->error), "at byte %" PRIu64 ": ", at);

    va_start(args, fmt);
    (void)vsnprintf(h->error + n, sizeof(h->error) - (size_t)n, fmt, args);
    va_end(args);
    h->rc = -EINVAL;
    return -EINVAL;
}

int heapsnapshot_new(struct heapsnapshot **ret) {
    struct heapsnapshot *h = mem_calloc(1, sizeof(*h));

    if (h == NULL)
        return -ENOMEM;
    h->first = true;
    buf_init(&h->text, LIMIT_HEAP_META_BYTES);
    classes_init(&h->classes);
    *ret = h;
    return 0;
}

void heapsnapshot_free(struct heapsnapshot *h) {
    if (h == NULL)
        return;
    buf_clear(&h->text);
    classes_clear(&h->classes);
    mem_free(h->class_list);
    mem_free(h);
}

static bool blank(char ch) {
    return ch == ' ' || ch == '\n' || ch == '\r' || ch == '\t';
}

static bool key_is(const struct heapsnapshot *h, const char *name) {
    return h->key_len == strlen(name) && memcmp(h->key, name, h->key_len) == 0;
}

/* --- between the values ----------------------------------------------------------------------- */

static size_t on_open(struct heapsnapshot *h, const char *p, size_t len) {
    (void)len;
    if (*p == '{')
        h->state = READER_KEY;
    else
        (void)reader_wrong(h, h->at, "no heap snapshot: it does not begin with \"{\"");
    return 1;
}

static size_t on_key(struct heapsnapshot *h, const char *p, size_t len) {
    (void)len;
    h->key_len = 0;
    if (*p == '"')
        h->state = READER_KEY_TEXT;
    else if (*p == '}' && h->first)
        h->state = READER_DONE;
    else
        (void)reader_wrong(h, h->at, "no heap snapshot: a key is wanted");
    h->first = false;
    return 1;
}

static size_t on_key_text(struct heapsnapshot *h, const char *p, size_t len) {
    (void)len;
    if (*p == '"')
        h->state = READER_COLON;
    else if (h->key_len == sizeof(h->key))
        (void)reader_wrong(h, h->at, "no heap snapshot: it has no such long keys");
    else
        h->key[h->key_len++] = *p;
    return 1;
}

static size_t on_colon(struct heapsnapshot *h, const char *p, size_t len) {
    (void)len;
    if (*p == ':')
        h->state = READER_VALUE;
    else
        (void)reader_wrong(h, h->at, "\":\" is wanted");
    return 1;
}

/* What is known is wanted once, in V8's order, and as an array. */
static int begin_array(struct heapsnapshot *h, char ch, bool have, bool have_before,
                       enum reader_state state) {
    if (have || !have_before || ch != '[')
        return reader_wrong(h, h->at, "\"%.*s\" does not stand where V8 writes it", (int)h->key_len,
                            h->key);
    h->state = state;
    return 0;
}

static size_t on_value(struct heapsnapshot *h, const char *p, size_t len) {
    (void)len;
    h->balance = (struct balance){0};
    if (key_is(h, "snapshot")) {
        if (h->have_meta || *p != '{')
            (void)reader_wrong(h, h->at, "\"snapshot\" is no object, or there are two of them");
        h->state = READER_SNAPSHOT;
        return 0; /* the brace belongs to what is kept */
    }
    if (key_is(h, "nodes"))
        (void)begin_array(h, *p, h->have_nodes, h->have_meta, READER_NODES);
    else if (key_is(h, "edges"))
        (void)begin_array(h, *p, h->have_edges, h->have_nodes, READER_EDGES);
    else if (key_is(h, "strings"))
        (void)begin_array(h, *p, h->have_strings, h->have_nodes, READER_STRINGS);
    else {
        h->state = READER_SKIP;
        return 0;
    }
    return 1;
}

static size_t on_after(struct heapsnapshot *h, const char *p, size_t len) {
    (void)len;
    if (*p == ',')
        h->state = READER_KEY;
    else if (*p == '}')
        h->state = READER_DONE;
    else
        (void)reader_wrong(h, h->at, "\",\" or \"}\" is wanted after \"%.*s\"", (int)h->key_len,
                           h->key);
    return 1;
}

static size_t on_done(struct heapsnapshot *h, const char *p, size_t len) {
    (void)p, (void)len;
    (void)reader_wrong(h, h->at, "it goes on after its end");
    return 1;
}

/* --- the values ------------------------------------------------------------------------------- */

/* Up to the end of the value: returns its bytes, *ret_end says whether it has ended. A number or a word ends before "," or "}". */
static size_t balance_push(struct balance *b, const char *p, size_t len, bool *ret_end) {
    *ret_end = false;
    for (size_t i = 0; i < len; i++) {
        char ch = p[i];

        if (b->in_text) {
            if (b->escaped)
                b->escaped = false;
            else if (ch == '\\')
                b->escaped = true;
            else if (ch == '"')
                b->in_text = false;
            continue;
        }
        *ret_end = true;
        if (b->depth == 0 && (ch == ',' || ch == '}' || ch == ']'))
            return i;
        if (ch == '"')
            b->in_text = true;
        else if (ch == '{' || ch == '[')
            b->depth++;
        else if ((ch == '}' || ch == ']') && --b->depth == 0)
            return i + 1;
        *ret_end = false;
    }
    return len;
}

static size_t on_skip(struct heapsnapshot *h, const char *p, size_t len) {
    bool end;
    size_t n = balance_push(&h->balance, p, len, &end);

    if (end)
        h->state = READER_AFTER;
    return n;
}

static size_t on_snapshot(struct heapsnapshot *h, const char *p, size_t len) {
    char why[META_WHY_BYTES] = "";
    bool end;
    size_t n = balance_push(&h->balance, p, len, &end);

    buf_add(&h->text, p, n);
    if (h->text.err == -ENOBUFS)
        (void)reader_wrong(h, h->at, "no heap snapshot: its \"snapshot\" is longer than %d bytes",
                           LIMIT_HEAP_META_BYTES);
    else
        h->rc = h->text.err;
    if (!end || h->rc != 0)
        return n;
    h->rc = meta_read(&h->meta, h->text.data, h->text.len, why);
    if (h->rc == -EINVAL)
        (void)reader_wrong(h, h->at, "no heap snapshot: %s", why);
    buf_clear(&h->text);
    h->have_meta = true;
    h->state = READER_AFTER;
    return n;
}

static size_t on_strings(struct heapsnapshot *h, const char *p, size_t len) {
    int rc;
    size_t n = names_push(&h->names, &h->classes, p, len, &rc);

    if (rc == -EINVAL)
        (void)reader_wrong(h, h->at + n, "its strings are damaged");
    else if (rc < 0)
        h->rc = rc;
    if (rc != 1)
        return n;
    if (classes_wanted(&h->classes) != UINT32_MAX)
        (void)reader_wrong(h, h->at + n,
                           "a node has name %" PRIu32 " and there are %" PRIu32 " strings",
                           classes_wanted(&h->classes), h->names.count);
    h->have_strings = true;
    h->state = READER_AFTER;
    return n;
}

/* `tight`: white space belongs to it, too. */
static const struct {
    size_t (*push)(struct heapsnapshot *h, const char *p, size_t len);
    bool tight;
    const char *where;
} states[READER_STATES] = {
    [READER_OPEN] = {on_open, false, "before its beginning"},
    [READER_KEY] = {on_key, false, "between its parts"},
    [READER_KEY_TEXT] = {on_key_text, true, "between its parts"},
    [READER_COLON] = {on_colon, false, "between its parts"},
    [READER_VALUE] = {on_value, false, "between its parts"},
    [READER_SNAPSHOT] = {on_snapshot, true, "in its description"},
    [READER_NODES] = {numbers_nodes, true, "in its nodes"},
    [READER_EDGES] = {numbers_edges, true, "in its edges"},
    [READER_STRINGS] = {on_strings, true, "in its strings"},
    [READER_SKIP] = {on_skip, true, "between edges and strings"},
    [READER_AFTER] = {on_after, false, "between its parts"},
    [READER_DONE] = {on_done, false, "after its end"},
};

int heapsnapshot_push(struct heapsnapshot *h, const char *data, size_t len) {
    size_t i = 0;

    while (i < len && h->rc == 0) {
        size_t n;

        if (!states[h->state].tight && blank(data[i]))
            n = 1;
        else
            n = states[h->state].push(h, data + i, len - i);
        i += n;
        h->at += n;
    }
    return h->rc;
}

/* --- the end ---------------------------------------------------------------------------------- */

static int summarize(struct heapsnapshot *h) {
    struct heapsnapshot_class fixed[META_TYPES];
    struct heapsnapshot_summary *s = &h->summary;
    size_t n_fixed = 0;
    int rc;

    for (unsigned i = 0; i < h->meta.n_types; i++) {
        const struct class_sums *t = &h->types[i];
        const struct meta_type *type = &h->meta.types[i];

        h->type_list[i] = (struct heapsnapshot_class){type->name, t->count, t->bytes, t->detached};
        if (type->label[0] != '\0')
            fixed[n_fixed++] =
                (struct heapsnapshot_class){type->label, t->count, t->bytes, t->detached};
        s->total.count += t->count;
        s->total.bytes += t->bytes;
        s->total.detached += t->detached;
    }
    rc = classes_fold(&h->classes, fixed, n_fixed, &h->class_list, &s->n_classes);
    if (rc != 0)
        return rc;
    s->classes = h->class_list;
    s->types = h->type_list;
    s->n_types = h->meta.n_types;
    s->total.name = "total";
    s->capped = h->classes.capped;
    return 0;
}

int heapsnapshot_end(struct heapsnapshot *h) {
    if (h->rc != 0 || h->class_list != NULL)
        return h->rc;
    if (h->at == 0)
        return reader_wrong(h, 0, "it is empty");
    if (h->state != READER_DONE)
        return reader_wrong(h, h->at, "it ends %s: it was not written to its end",
                            states[h->state].where);
    if (!h->have_meta || !h->have_nodes || !h->have_edges || !h->have_strings)
        return reader_wrong(h, h->at, "no heap snapshot: it has no \"%s\"",
                            !h->have_meta    ? "snapshot"
                            : !h->have_nodes ? "nodes"
                            : !h->have_edges ? "edges"
                                             : "strings");
    h->rc = summarize(h);
    return h->rc;
}

const char *heapsnapshot_error(const struct heapsnapshot *h) {
    return h->error[0] == '\0' && h->rc != 0 ? strerror(-h->rc) : h->error;
}

uint64_t heapsnapshot_nodes_announced(const struct heapsnapshot *h) {
    return h->meta.nodes_announced;
}

uint64_t heapsnapshot_nodes(const struct heapsnapshot *h) {
    return h->nodes;
}

const struct heapsnapshot_summary *heapsnapshot_summary(const struct heapsnapshot *h) {
    return h->class_list != NULL ? &h->summary : NULL;
}

/* --- for others ------------------------------------------------------------------------------- */

static void put_sums(struct buf *out, const struct heapsnapshot_class *c) {
    buf_printf(out, "\"count\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"detached\":%" PRIu64, c->count,
               c->bytes, c->detached);
}

void heapsnapshot_json(const struct heapsnapshot_summary *s, size_t top, struct buf *out) {
    const char *comma = "";

    buf_printf(out,
               "{\"nodes\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"detached\":%" PRIu64
               ",\"classes_total\":%zu,\"capped\":%s,\"types\":{",
               s->total.count, s->total.bytes, s->total.detached, s->n_classes,
               s->capped ? "true" : "false");
    for (size_t i = 0; i < s->n_types; i++) {
        if (s->types[i].count == 0)
            continue;
        buf_puts(out, comma);
        buf_json_string(out, s->types[i].name);
        buf_puts(out, ":{");
        put_sums(out, &s->types[i]);
        buf_putc(out, '}');
        comma = ",";
    }
    buf_puts(out, "},\"classes\":[");
    for (size_t i = 0; i < s->n_classes && (top == 0 || i < top); i++) {
        buf_puts(out, i > 0 ? ",{\"class\":" : "{\"class\":");
        buf_json_string(out, s->classes[i].name);
        buf_putc(out, ',');
        put_sums(out, &s->classes[i]);
        buf_putc(out, '}');
    }
    buf_puts(out, "]}");
}
