/* xml.h - reads the small documents that S3 answers with, as they come, with memory that does not grow: names and text, nothing
 * else. White space before the document is skipped however much there is (S3 sends it for minutes to keep a connection).
 *
 * Prefixes of names are left out ("s3:Code" is "Code"). Attributes, comments and processing instructions are skipped; a document
 * type or CDATA is refused. https://www.w3.org/TR/xml/ */
#ifndef PILLION_STORES_XML_H
#define PILLION_STORES_XML_H

#include <stdbool.h>
#include <stddef.h>

#define XML_DEPTH      8
#define XML_NAME_BYTES 48   /* longer: -EBADMSG */
#define XML_TEXT_BYTES 1100 /* longer: cut, and never the value of anything that we go on with */

/* The end of an element. `path` is "ListPartsResult/Part/ETag"; `text` what stood directly in it, entities read, "" when there were
 * elements in it; NULL: it was too long. */
typedef void (*xml_end_cb)(void *arg, const char *path, const char *text);

struct xml {
    xml_end_cb end;
    void *arg;
    int state;
    int err;     /* -EBADMSG sticks */
    bool closed; /* the root element has ended */
    bool cut;    /* the text is too long */
    unsigned depth;
    unsigned char path_at[XML_DEPTH + 1]; /* length of the path at each depth */
    char path[250];
    char name[XML_NAME_BYTES];
    size_t name_len;
    char text[XML_TEXT_BYTES];
    size_t text_len;
    char entity[12];
    size_t entity_len;
    char quote, last;
};

void xml_begin(struct xml *x, xml_end_cb end, void *arg);
/* 0 or x->err. In pieces of any size. */
int xml_feed(struct xml *x, const char *data, size_t len);
/* The document was whole: its first element has ended. */
bool xml_complete(const struct xml *x);

#endif
