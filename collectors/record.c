/* One block a layout: where each text begins, then the texts `,"key":` in the order in which
 * they are written: one for a gauge or counter; for a histogram its buckets, sum and count. */
#include "collectors/record.h"

#include <errno.h>
#include <math.h>

#include "agent/base/mem.h"

#define KEYS_BYTES (1024 * 1024)

struct schema_keys {
    uint32_t n;
    uint32_t at[]; /* n + 1 offsets from the start of this block */
};

void record_key(struct buf *out, const struct field *f, const char *suffix, const char *le) {
    char sep = '{';

    buf_puts(out, f->name);
    buf_puts(out, suffix);
    for (size_t i = 0; i < f->n_attributes; i++) {
        buf_printf(out, "%c%s=%s", sep, f->attributes[2 * i], f->attributes[2 * i + 1]);
        sep = ',';
    }
    if (le != NULL) {
        buf_printf(out, "%cle=%s", sep, le);
        sep = ',';
    }
    if (sep == ',')
        buf_putc(out, '}');
}

/* One text at a time through `key`, because it has to be escaped as a whole. */
static void put_text(struct buf *texts, struct buf *key, uint32_t *at, uint32_t base) {
    *at = base + (uint32_t)texts->len;
    buf_putc(texts, ',');
    buf_json_string(texts, key->data != NULL ? key->data : "");
    buf_putc(texts, ':');
    texts->err = texts->err != 0 ? texts->err : key->err;
    buf_reset(key);
}

static uint32_t put_field(struct buf *texts, struct buf *key, const struct field *f, uint32_t *at,
                          uint32_t base) {
    uint32_t n = 0;

    if (f->kind != FIELD_HISTOGRAM) {
        buf_puts(key, f->key);
        put_text(texts, key, &at[n++], base);
        return n;
    }
    for (size_t i = 0; i <= f->n_bounds; i++) {
        char le[BUF_NUMBER_BYTES + 1] = "+Inf";

        if (i < f->n_bounds)
            le[buf_format_number(le, f->bounds[i])] = '\0';
        record_key(key, f, ".bucket", le);
        put_text(texts, key, &at[n++], base);
    }
    record_key(key, f, ".sum", NULL);
    put_text(texts, key, &at[n++], base);
    record_key(key, f, ".count", NULL);
    put_text(texts, key, &at[n++], base);
    return n;
}

static struct schema_keys *make_keys(const struct schema *s) {
    struct schema_keys *keys = NULL, *whole;
    uint32_t n = s->n_slots, i = 0, base;
    struct buf texts, key;

    buf_init(&texts, KEYS_BYTES);
    buf_init(&key, KEYS_BYTES);
    for (size_t f = 0; f < s->n_fields; f++)
        n += s->fields[f].kind == FIELD_HISTOGRAM;
    base = (uint32_t)(sizeof(*keys) + (n + 1) * sizeof(keys->at[0]));
    keys = mem_alloc(base);
    if (keys == NULL)
        goto out;
    keys->n = n;
    for (size_t f = 0; f < s->n_fields; f++)
        i += put_field(&texts, &key, &s->fields[f], &keys->at[i], base);
    keys->at[n] = base + (uint32_t)texts.len;
    whole = texts.err == 0 ? mem_realloc(keys, base + texts.len) : NULL;
    if (whole == NULL) {
        mem_free(keys);
        keys = NULL;
        goto out;
    }
    keys = whole;
    if (texts.len > 0)
        memcpy((char *)keys + base, texts.data, texts.len);
out:
    buf_clear(&texts);
    buf_clear(&key);
    return keys;
}

/* Nothing here is known better than to a billionth of its unit, and clocks tick in nanoseconds: digits beyond are what
 * floating point left behind (1.07402687000102), and would be a third of what a sample takes in the spool. */
static double to_billionths(double v) {
    double rounded;

    if (!(fabs(v) < 1e6))
        return v;
    rounded = (double)(int64_t)(v * 1e9 + (v < 0 ? -0.5 : 0.5)) / 1e9;
    return rounded != 0 ? rounded : v; /* what is there is never shown as 0 */
}

static void put_member(struct buf *out, const struct schema_keys *keys, uint32_t i, double v) {
    size_t len = keys->at[i + 1] - keys->at[i];
    char number[BUF_NUMBER_BYTES];
    size_t digits = buf_format_number(number, to_billionths(v));
    char *p;

    if (buf_reserve(out, len + digits) != 0)
        return;
    p = out->data + out->len;
    memcpy(p, (const char *)keys + keys->at[i], len);
    memcpy(p + len, number, digits);
    p[len + digits] = '\0';
    out->len += len + digits;
}

static void put_histogram(struct buf *out, const struct schema_keys *keys, uint32_t first,
                          const struct field *f, const double *slots) {
    double count = 0;

    for (size_t i = 0; i <= f->n_bounds; i++)
        count += slots[i];
    if (!(count > 0)) /* none, or not known */
        return;
    for (uint32_t i = 0; i <= f->n_bounds; i++)
        put_member(out, keys, first + i, slots[i]);
    if (isfinite(slots[f->n_bounds + 1]))
        put_member(out, keys, first + f->n_bounds + 1, slots[f->n_bounds + 1]);
    put_member(out, keys, first + f->n_bounds + 2, count);
}

void record_metrics_below(struct buf *out, const struct schema *s, const double *values,
                          size_t n_slots) {
    const struct schema_keys *keys = s->keys;
    uint32_t text = 0;

    if (keys == NULL) {
        keys = make_keys(s);
        if (keys == NULL) {
            out->err = out->err != 0 ? out->err : -ENOMEM;
            return;
        }
        /* Not a change that anyone can see: the layout itself is immutable. */
        ((struct schema *)(uintptr_t)s)->keys = (struct schema_keys *)(uintptr_t)keys;
    }
    for (size_t i = 0; i < s->n_fields; i++) {
        const struct field *f = &s->fields[i];

        if (f->slot >= n_slots)
            break;
        if (f->kind == FIELD_HISTOGRAM) {
            put_histogram(out, keys, text, f, values + f->slot);
            text += f->n_bounds + 3u;
        } else {
            if (isfinite(values[f->slot]))
                put_member(out, keys, text, values[f->slot]);
            text++;
        }
    }
}

void record_metrics(struct buf *out, const struct schema *s, const double *values) {
    record_metrics_below(out, s, values, s->n_slots);
}

void record_metrics_object(struct buf *out, const struct schema *s, const double *values) {
    size_t start = out->len;

    record_metrics(out, s, values);
    if (out->err == 0 && out->len > start)
        out->data[start] = '{';
    else
        buf_putc(out, '{');
    buf_putc(out, '}');
}
