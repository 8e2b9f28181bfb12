/* A line: whose is it (the worker of the last line's successor, mostly) -> word by word: the one that followed its
 * predecessor last time, or the time before, else its number, else its text -> its value by kind. */
#include "uploader/spool/lines.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/spool/iso.h"

#define ARENA_BYTES (64u * 1024 * 1024)
#define WORDS_MOST  (4u * 1024 * 1024)
#define TEXT_MOST   (2u * 1024 * 1024)
#define WORKER_WORD ",\"worker\":"
#define LINE_END    "}"

struct word {
    uint32_t at, len;    /* in the arena */
    uint32_t chain;      /* of the same hash; 0 none (numbers are kept + 1) */
    uint32_t follows[2]; /* the words behind it, the last one first; + 1, 0 none */
    uint32_t follower;   /* the string that came last, with whichever worker; + 1 */
    struct chance hit[2], usual_kind, same, next;
    uint8_t last_kind;
    struct column *column;
};

struct stream {
    uint32_t text;      /* of the worker's id + 1; 0 no worker */
    uint32_t follows;   /* the stream that came after it + 1 */
    struct past *pasts; /* by word */
    size_t n;
};

struct lines {
    struct buf arena;
    struct word *words; /* and strings */
    uint32_t n, cap;
    uint32_t *table; /* of hashes: number + 1 */
    uint32_t table_n;
    struct stream *streams;
    uint32_t n_streams, stream; /* the one of the last line */
    uint32_t worker_word, end_word;
    struct chance stream_hit, kinds[8], bytes[2][256];
    struct sizes stream_sizes, word_sizes, text_sizes, length_sizes, prefix_sizes;
    uint32_t last_new;
};

static const char *text_of(const struct lines *l, uint32_t i) {
    return l->arena.data + l->words[i].at;
}

/* --- the table --- */

static uint32_t hash(const char *p, size_t len) {
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)p[i]) * 16777619u;
    return h;
}

static int grow_table(struct lines *l) {
    uint32_t n = l->table_n == 0 ? 1024 : 2 * l->table_n;
    uint32_t *table = mem_calloc(n, sizeof(*table));

    if (table == NULL)
        return -ENOMEM;
    mem_free(l->table);
    l->table = table;
    l->table_n = n;
    for (uint32_t i = 0; i < l->n; i++) {
        uint32_t *slot = &table[hash(text_of(l, i), l->words[i].len) & (n - 1)];

        l->words[i].chain = *slot;
        *slot = i + 1;
    }
    return 0;
}

static bool find(const struct lines *l, const char *p, size_t len, uint32_t *ret) {
    uint32_t i = l->table[hash(p, len) & (l->table_n - 1)];

    for (; i > 0; i = l->words[i - 1].chain)
        if (l->words[i - 1].len == len && memcmp(text_of(l, i - 1), p, len) == 0) {
            *ret = i - 1;
            return true;
        }
    return false;
}

static void word_init(struct word *w) {
    *w = (struct word){.last_kind = PIECE_NUMBER};
    w->hit[0] = w->hit[1] = w->usual_kind = w->same = w->next = CHANCE_EVEN;
}

/* A new one, numbered next. */
static int add_word(struct lines *l, const char *p, size_t len, uint32_t *ret) {
    struct word *w;
    uint32_t *slot;
    size_t at = l->arena.len;

    if (l->n >= WORDS_MOST)
        return -EBADMSG;
    if (l->n == l->cap) {
        uint32_t cap = l->cap == 0 ? 512 : 2 * l->cap;

        w = mem_realloc(l->words, cap * sizeof(*w));
        if (w == NULL)
            return -ENOMEM;
        l->words = w;
        l->cap = cap;
    }
    if (l->n >= l->table_n && grow_table(l) != 0)
        return -ENOMEM;
    buf_add(&l->arena, p, len);
    if (l->arena.err != 0)
        return l->arena.err == -ENOMEM ? -ENOMEM : -EBADMSG;
    w = &l->words[l->n];
    word_init(w);
    w->at = (uint32_t)at;
    w->len = (uint32_t)len;
    slot = &l->table[hash(p, len) & (l->table_n - 1)];
    w->chain = *slot;
    *slot = l->n + 1;
    *ret = l->n++;
    return 0;
}

static int number_of(struct lines *l, const char *p, size_t len, uint32_t *ret) {
    return find(l, p, len, ret) ? 0 : add_word(l, p, len, ret);
}

/* --- beginning and end --- */

/* The words of this version, each expected behind the one before it, or the end of the line. */
static int add_known(struct lines *l) {
    uint32_t i, before = 0;
    int rc = add_word(l, "", 0, &i); /* number 0: where a line begins */

    for (unsigned k = 0; rc == 0 && k < spool_words_n; k++) {
        rc = add_word(l, spool_words[k], strlen(spool_words[k]), &i);
        if (rc != 0)
            break;
        l->words[before].follows[0] = i + 1;
        before = i;
    }
    if (rc == 0)
        rc = number_of(l, WORKER_WORD, strlen(WORKER_WORD), &l->worker_word);
    if (rc == 0)
        rc = number_of(l, LINE_END, strlen(LINE_END), &l->end_word);
    for (i = 0; rc == 0 && i < l->n; i++)
        if (l->words[i].follows[1] == 0)
            l->words[i].follows[1] = l->end_word + 1;
    return rc;
}

int lines_new(struct lines **ret) {
    struct lines *l = mem_calloc(1, sizeof(*l));
    int rc = l != NULL ? 0 : -ENOMEM;

    if (rc != 0)
        return rc;
    buf_init(&l->arena, ARENA_BYTES);
    l->stream_hit = CHANCE_EVEN;
    chances_even(l->kinds, ARRAY_LEN(l->kinds));
    chances_even(&l->bytes[0][0], 2 * ARRAY_LEN(l->bytes[0]));
    sizes_init(&l->stream_sizes);
    sizes_init(&l->word_sizes);
    sizes_init(&l->text_sizes);
    sizes_init(&l->length_sizes);
    sizes_init(&l->prefix_sizes);
    rc = grow_table(l);
    if (rc == 0)
        rc = add_known(l);
    if (rc == 0)
        l->streams = mem_calloc(1, sizeof(*l->streams)); /* number 0: no worker */
    if (rc == 0 && l->streams == NULL)
        rc = -ENOMEM;
    if (rc == 0) {
        l->n_streams = 1;
        *ret = l;
    } else {
        lines_free(l);
    }
    return rc;
}

void lines_free(struct lines *l) {
    if (l == NULL)
        return;
    for (uint32_t i = 0; i < l->n; i++) {
        if (l->words[i].column != NULL)
            column_clear(l->words[i].column);
        mem_free(l->words[i].column);
    }
    for (uint32_t i = 0; i < l->n_streams; i++)
        mem_free(l->streams[i].pasts);
    mem_free(l->streams);
    mem_free(l->words);
    mem_free(l->table);
    buf_clear(&l->arena);
    mem_free(l);
}

/* --- texts --- */

static void fail(struct bits *b, int rc) {
    if (b->err == 0)
        b->err = rc;
}

/* A text that is new: what it has in common with the last new one, and the rest byte by byte. */
static uint32_t code_new(struct lines *l, struct bits *b, const char *p, size_t len) {
    const struct word *w = &l->words[l->last_new];
    uint64_t prefix = 0, rest;
    uint32_t i = 0;
    unsigned c = 0;
    struct buf t;
    int rc;

    while (prefix < len && prefix < w->len && p[prefix] == text_of(l, l->last_new)[prefix])
        prefix++;
    prefix = bits_number(b, &l->prefix_sizes, prefix);
    rest = bits_number(b, &l->length_sizes, len - prefix);
    if (prefix > w->len || rest > TEXT_MOST)
        fail(b, -EBADMSG);
    if (b->err != 0)
        return 0;
    buf_init(&t, ARENA_BYTES);
    buf_add(&t, text_of(l, l->last_new), prefix);
    (void)buf_reserve(&t, 1); /* never NULL */
    for (uint64_t k = 0; k < rest && b->err == 0 && t.err == 0; k++) {
        c = bits_tree(b, l->bytes[c >= 'a'], 8, b->reading ? 0 : (unsigned char)p[prefix + k]);
        buf_putc(&t, (char)c);
    }
    rc = t.err == 0 ? add_word(l, t.data, t.len, &i) : t.err;
    buf_clear(&t);
    if (rc != 0)
        fail(b, rc == -ENOMEM ? -ENOMEM : -EBADMSG);
    l->last_new = i;
    return i;
}

/* One of the table, by its distance from the end, or 0 and a new one. */
static uint32_t code_any(struct lines *l, struct bits *b, struct sizes *sizes, const char *p,
                         size_t len) {
    uint32_t i = 0;
    uint64_t back = !b->reading && find(l, p, len, &i) ? l->n - i : 0;

    back = bits_number(b, sizes, back);
    if (back == 0)
        return code_new(l, b, p, len);
    if (back <= l->n)
        return l->n - (uint32_t)back;
    fail(b, -EBADMSG);
    return 0;
}

static bool is_text(const struct lines *l, uint32_t plus_one, const char *p, size_t len) {
    return plus_one > 0 && l->words[plus_one - 1].len == len &&
           memcmp(text_of(l, plus_one - 1), p, len) == 0;
}

/* --- a line --- */

static uint32_t code_word(struct lines *l, struct bits *b, uint32_t before, const struct piece *p) {
    uint32_t *follows = l->words[before].follows, was[2] = {follows[0], follows[1]}, i;

    for (unsigned k = 0; k < 2; k++) {
        if (was[k] == 0 ||
            bits_code(b, &l->words[before].hit[k], !is_text(l, was[k], p->word, p->word_len)) != 0)
            continue;
        follows[0] = was[k];
        follows[1] = was[1 - k];
        return was[k] - 1;
    }
    i = code_any(l, b, &l->word_sizes, p->word, p->word_len);
    follows = l->words[before].follows; /* may have moved */
    follows[1] = was[0];
    follows[0] = i + 1;
    return i;
}

static enum piece_kind code_kind(struct lines *l, struct bits *b, uint32_t word,
                                 const struct piece *p) {
    struct word *w = &l->words[word];

    if (bits_code(b, &w->usual_kind, p->kind != w->last_kind) != 0)
        w->last_kind = (uint8_t)bits_tree(b, l->kinds, 3, p->kind);
    if (w->last_kind > PIECE_RAW)
        fail(b, -EBADMSG);
    return w->last_kind;
}

/* The string or raw value: as last time with this worker, or what followed the last one, or any. */
static uint32_t code_string(struct lines *l, struct bits *b, uint32_t word, struct past *past,
                            const struct piece *p) {
    uint32_t i;

    if (past->text > 0 &&
        bits_code(b, &l->words[word].same, !is_text(l, past->text, p->text, p->text_len)) == 0)
        return past->text - 1;
    i = l->words[word].follower;
    if (i == 0 || bits_code(b, &l->words[word].next, !is_text(l, i, p->text, p->text_len)) != 0)
        i = code_any(l, b, &l->text_sizes, p->text, p->text_len) + 1;
    l->words[word].follower = i;
    past->text = i;
    return i - 1;
}

static struct past *past_of(struct lines *l, struct bits *b, uint32_t word) {
    struct stream *s = &l->streams[l->stream];

    if (word >= s->n) {
        struct past *pasts = mem_realloc(s->pasts, l->cap * sizeof(*pasts));

        if (pasts == NULL) {
            fail(b, -ENOMEM);
            return NULL;
        }
        memset(pasts + s->n, 0, (l->cap - s->n) * sizeof(*pasts));
        s->pasts = pasts;
        s->n = l->cap;
    }
    return &s->pasts[word];
}

static void code_number(struct lines *l, struct bits *b, uint32_t word, struct past *past,
                        struct neighbour *near, struct decimal *n) {
    struct word *w = &l->words[word];

    if (w->column == NULL) {
        w->column = mem_alloc(sizeof(*w->column));
        if (w->column == NULL) {
            fail(b, -ENOMEM);
            return;
        }
        column_init(w->column);
    }
    column_code(b, w->column, past, near, n);
}

static uint32_t add_stream(struct lines *l, struct bits *b, uint32_t text) {
    struct stream *s;

    if (l->n_streams >= WORDS_MOST) {
        fail(b, -EBADMSG);
        return 0;
    }
    s = mem_realloc(l->streams, (l->n_streams + 1) * sizeof(*s));
    if (s == NULL) {
        fail(b, -ENOMEM);
        return 0;
    }
    l->streams = s;
    s[l->n_streams] = (struct stream){.text = text + 1};
    return l->n_streams++;
}

static uint32_t find_stream(const struct lines *l, const struct piece *worker) {
    if (worker == NULL)
        return 0;
    for (uint32_t i = 1; i < l->n_streams; i++)
        if (is_text(l, l->streams[i].text, worker->text, worker->text_len))
            return i;
    return l->n_streams;
}

/* Whose line it is. */
static void code_stream(struct lines *l, struct bits *b, const struct piece *worker) {
    uint32_t i = b->reading ? 0 : find_stream(l, worker), before = l->stream;
    uint32_t expected = l->streams[before].follows;

    if (expected > 0 && bits_code(b, &l->stream_hit, i != expected - 1) == 0) {
        l->stream = expected - 1;
        return;
    }
    i = (uint32_t)bits_number(b, &l->stream_sizes, i);
    if (i > l->n_streams)
        fail(b, -EBADMSG);
    if (b->err == 0 && i == l->n_streams)
        i = add_stream(l, b,
                       code_any(l, b, &l->text_sizes, worker != NULL ? worker->text : NULL,
                                worker != NULL ? worker->text_len : 0));
    if (b->err != 0)
        return;
    l->streams[before].follows = i + 1;
    l->stream = i;
}

static const struct piece *worker_of(const struct lines *l, const struct piece *pieces, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (pieces[i].kind == PIECE_STRING &&
            is_text(l, l->worker_word + 1, pieces[i].word, pieces[i].word_len))
            return &pieces[i];
    return NULL;
}

/* The state within a line, the same in both directions. */
struct place {
    uint32_t word;
    bool named; /* the worker's id has come */
    struct neighbour near;
    uint32_t text;    /* of PIECE_STRING and PIECE_RAW */
    struct decimal n; /* of PIECE_NUMBER and PIECE_TIME */
};

static enum piece_kind code_piece(struct lines *l, struct bits *b, struct place *at,
                                  const struct piece *p) {
    struct past *past;
    enum piece_kind kind;

    at->word = code_word(l, b, at->word, p);
    kind = code_kind(l, b, at->word, p);
    if (b->err != 0 || kind <= PIECE_NOTHING)
        return kind;
    if (kind == PIECE_STRING && at->word == l->worker_word && !at->named && l->stream > 0) {
        at->named = true;
        at->text = l->streams[l->stream].text - 1;
        return kind;
    }
    past = past_of(l, b, at->word);
    if (b->err != 0)
        return kind;
    at->n = p->number;
    if (kind == PIECE_NUMBER || kind == PIECE_TIME)
        code_number(l, b, at->word, past, &at->near, &at->n);
    else
        at->text = code_string(l, b, at->word, past, p);
    return kind;
}

void lines_write(struct lines *l, struct bits *b, const struct piece *pieces, size_t n) {
    struct place at = {.word = 0};

    code_stream(l, b, worker_of(l, pieces, n));
    for (size_t i = 0; i < n && b->err == 0; i++) {
        struct piece p = pieces[i];
        uint32_t word;

        if ((p.kind == PIECE_NUMBER || p.kind == PIECE_TIME) &&
            find(l, p.word, p.word_len, &word) && l->words[word].column != NULL &&
            !column_takes(l->words[word].column, &p.number)) /* as it stands there, then */
            p.kind = p.kind == PIECE_TIME ? PIECE_STRING : PIECE_RAW;
        (void)code_piece(l, b, &at, &p);
    }
}

static void put_piece(const struct lines *l, const struct place *at, enum piece_kind kind,
                      struct buf *out) {
    char tmp[ISO_BYTES > DECIMAL_TEXT_BYTES ? ISO_BYTES : DECIMAL_TEXT_BYTES];
    const char *quote = kind == PIECE_STRING || kind == PIECE_TIME ? "\"" : "";

    buf_add(out, text_of(l, at->word), l->words[at->word].len);
    if (kind <= PIECE_NOTHING)
        return;
    buf_puts(out, quote);
    if (kind == PIECE_NUMBER)
        buf_add(out, tmp, decimal_format(tmp, &at->n));
    else if (kind == PIECE_TIME)
        buf_add(out, tmp, iso_format(tmp, at->n.m));
    else
        buf_add(out, text_of(l, at->text), l->words[at->text].len);
    buf_puts(out, quote);
}

void lines_read(struct lines *l, struct bits *b, struct buf *out) {
    static const struct piece none = {.word = "", .text = ""};
    struct place at = {.word = 0};
    enum piece_kind kind = PIECE_NOTHING;

    code_stream(l, b, NULL);
    while (b->err == 0 && kind != PIECE_END) {
        size_t had = out->len;

        kind = code_piece(l, b, &at, &none);
        if (b->err != 0)
            return;
        put_piece(l, &at, kind, out);
        if (out->err != 0)
            fail(b, out->err == -ENOMEM ? -ENOMEM : -EBADMSG);
        else if (kind != PIECE_END && out->len == had)
            fail(b, -EBADMSG); /* for ever */
    }
    if (b->err == 0)
        buf_putc(out, '\n');
    if (out->err != 0)
        fail(b, out->err == -ENOMEM ? -ENOMEM : -EBADMSG);
}
