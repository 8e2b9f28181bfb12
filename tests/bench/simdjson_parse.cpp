// A bare parse by simdjson: the file into memory, the DOM, nothing else. Prints one number of it, so that nothing is left out.
#include <simdjson.h>

#include <cstdio>

int main(int argc, char **argv) {
    simdjson::dom::parser parser;
    simdjson::dom::element document;

    if (argc != 2 || parser.load(argv[1]).get(document) != simdjson::SUCCESS)
        return 1;
    std::printf("%zu\n", document["nodes"].get_array().size());
    return 0;
}
