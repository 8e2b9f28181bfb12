/* page.h - the parts of the flame graph's page that the program carries: page/. */
#ifndef PILLION_FLAMEGRAPH_PAGE_H
#define PILLION_FLAMEGRAPH_PAGE_H

#include <stddef.h>

extern const char flamegraph_page_html[]; /* with places like <!--title-->, see write_html.c */
extern const size_t flamegraph_page_html_len;
extern const char flamegraph_page_css[];
extern const size_t flamegraph_page_css_len;
extern const char flamegraph_page_js[];
extern const size_t flamegraph_page_js_len;

#endif
