/* One byte at a time; each state is a small function that says what the next state is. */
#include "uploader/stores/xml.h"

#include <errno.h>
#include <stdint.h>

#include "agent/base/mem.h"

enum {
    TEXT,
    ENTITY,
    MARK,
    NAME,
    INSIDE,
    QUOTED,
    EMPTY,
    END_NAME,
    END_REST,
    SKIP_PI,
    BANG,
    SKIP_COMMENT,
    BAD
};

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':';
}

static void put_text(struct xml *x, const char *p, size_t n) {
    if (x->text_len + n >= sizeof(x->text)) {
        x->cut = true;
        return;
    }
    memcpy(x->text + x->text_len, p, n);
    x->text_len += n;
}

static void forget_text(struct xml *x) {
    x->text_len = 0;
    x->cut = false;
}

/* What stands between '&' and ';'. */
static bool put_entity(struct xml *x) {
    static const struct {
        const char *name, *text;
    } known[] = {{"lt", "<"}, {"gt", ">"}, {"amp", "&"}, {"quot", "\""}, {"apos", "'"}};
    unsigned long code;
    char *end, c;

    x->entity[x->entity_len] = '\0';
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(x->entity, known[i].name) == 0) {
            put_text(x, known[i].text, 1);
            return true;
        }
    if (x->entity[0] != '#' || x->entity_len < 2)
        return false;
    code =
        x->entity[1] == 'x' ? strtoul(x->entity + 2, &end, 16) : strtoul(x->entity + 1, &end, 10);
    if (*end != '\0' || code == 0 || code > 0x10ffff)
        return false;
    c = code < 0x80 ? (char)code : '?'; /* only in messages for people */
    put_text(x, &c, 1);
    return true;
}

static bool open_element(struct xml *x) {
    size_t at = x->path_at[x->depth], len = x->name_len;

    if (x->closed || len == 0 || x->depth >= XML_DEPTH || at + len + 2 > sizeof(x->path))
        return false;
    if (x->depth > 0)
        x->path[at++] = '/';
    memcpy(x->path + at, x->name, len);
    x->path[at + len] = '\0';
    x->path_at[++x->depth] = (unsigned char)(at + len);
    forget_text(x);
    return true;
}

/* `check`: the name in x->name must be the one that is open. */
static bool close_element(struct xml *x, bool check) {
    const char *last;

    if (x->depth == 0)
        return false;
    last = x->path + x->path_at[x->depth - 1] + (x->depth > 1);
    if (check && (strlen(last) != x->name_len || memcmp(last, x->name, x->name_len) != 0))
        return false;
    x->text[x->text_len] = '\0';
    x->end(x->arg, x->path, x->cut ? NULL : x->text);
    x->path[x->path_at[--x->depth]] = '\0';
    x->closed = x->depth == 0;
    forget_text(x);
    return true;
}

static int in_text(struct xml *x, char c) {
    if (c == '<')
        return MARK;
    if (x->depth == 0) /* before the first element, or behind it */
        return is_blank(c) || (unsigned char)c >= 0x80 ? TEXT : BAD;
    if (c == '&') {
        x->entity_len = 0;
        return ENTITY;
    }
    put_text(x, &c, 1);
    return TEXT;
}

static int in_entity(struct xml *x, char c) {
    if (c == ';')
        return put_entity(x) ? TEXT : BAD;
    if (x->entity_len + 1 >= sizeof(x->entity) || (!is_name(c) && c != '#'))
        return BAD;
    x->entity[x->entity_len++] = c;
    return ENTITY;
}

static int in_mark(struct xml *x, char c) {
    x->name_len = 0;
    x->last = '\0';
    if (c == '/')
        return END_NAME;
    if (c == '?')
        return SKIP_PI;
    if (c == '!')
        return BANG;
    if (!is_name(c))
        return BAD;
    x->name[x->name_len++] = c;
    return NAME;
}

static int add_name(struct xml *x, char c, int state) {
    if (c == ':') { /* it was a prefix */
        x->name_len = 0;
        return state;
    }
    if (x->name_len + 1 >= sizeof(x->name))
        return BAD;
    x->name[x->name_len++] = c;
    return state;
}

static int in_inside(struct xml *x, char c) {
    if (c == '>')
        return open_element(x) ? TEXT : BAD;
    if (c == '/')
        return EMPTY;
    if (c == '"' || c == '\'') {
        x->quote = c;
        return QUOTED;
    }
    return c == '<' ? BAD : INSIDE;
}

static int in_name(struct xml *x, char c) {
    return is_name(c) ? add_name(x, c, NAME) : in_inside(x, c);
}

static int in_end_name(struct xml *x, char c) {
    if (c == '>')
        return close_element(x, true) ? TEXT : BAD;
    if (is_blank(c))
        return END_REST;
    return is_name(c) ? add_name(x, c, END_NAME) : BAD;
}

static int step(struct xml *x, char c) {
    char last = x->last;

    switch (x->state) {
    case TEXT:
        return in_text(x, c);
    case ENTITY:
        return in_entity(x, c);
    case MARK:
        return in_mark(x, c);
    case NAME:
        return in_name(x, c);
    case INSIDE:
        return in_inside(x, c);
    case QUOTED:
        return c == x->quote ? INSIDE : QUOTED;
    case EMPTY:
        return c == '>' && open_element(x) && close_element(x, false) ? TEXT : BAD;
    case END_NAME:
        return in_end_name(x, c);
    case END_REST:
        return is_blank(c) ? END_REST : c == '>' && close_element(x, true) ? TEXT : BAD;
    case SKIP_PI:
        x->last = c;
        return last == '?' && c == '>' ? TEXT : SKIP_PI;
    case BANG: /* "<!--": anything else is a document type or CDATA */
        x->last = c;
        return c != '-' ? BAD : last == '-' ? SKIP_COMMENT : BANG;
    case SKIP_COMMENT: /* ends with the first "->": two hyphens are not allowed inside */
        x->last = c;
        return last == '-' && c == '>' ? TEXT : SKIP_COMMENT;
    default:
        return BAD;
    }
}

void xml_begin(struct xml *x, xml_end_cb end, void *arg) {
    *x = (struct xml){.end = end, .arg = arg, .state = TEXT};
}

int xml_feed(struct xml *x, const char *data, size_t len) {
    for (size_t i = 0; i < len && x->err == 0; i++) {
        x->state = step(x, data[i]);
        if (x->state == BAD)
            x->err = -EBADMSG;
    }
    return x->err;
}

bool xml_complete(const struct xml *x) {
    return x->err == 0 && x->closed && x->state == TEXT;
}
