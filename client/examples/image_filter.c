/*
 * image_filter: blurs a PNG picture in strips, one task each, and writes the result: image_filter IN.png OUT.png
 *
 * A strip travels with the rows above and below that its edge needs; so a strip is arguments (bytes) and result
 * (bytes), and no slot has to read a file. Checked against the same filter run here, in one piece.
 */
#include "example.h"

#include <png.h>
#include <string.h>

#define RADIUS 3
#define STRIP 32
#define CHANNELS 4 /* RGBA */

/* Rows [first, last) of the picture whose rows [top, bottom) are in pixels; neighbours outside the picture are left
 * out. */
static void blur(const unsigned char *pixels, int64_t width, int64_t top, int64_t bottom, int64_t first, int64_t last,
                 unsigned char *out)
{
    for (int64_t y = first; y < last; y++) {
        for (int64_t i = 0; i < width * CHANNELS; i++) {
            int64_t x = i / CHANNELS;
            unsigned sum = 0;
            unsigned count = 0;
            for (int64_t v = y - RADIUS; v <= y + RADIUS; v++) {
                for (int64_t u = x - RADIUS; u <= x + RADIUS; u++) {
                    if (v >= top && v < bottom && u >= 0 && u < width) {
                        sum += pixels[((v - top) * width + u) * CHANNELS + i % CHANNELS];
                        count++;
                    }
                }
            }
            out[(y - first) * width * CHANNELS + i] = (unsigned char)(sum / count);
        }
    }
}

/* blur_strip(pixels, width, top, bottom, first, last) */
static enum quern_err blur_strip(struct quern_task *task, struct quern_reader *args, struct quern_writer *result)
{
    const void *pixels;
    size_t size;
    int64_t number[5]; /* width, top, bottom, first, last */

    quern_read_bin(args, &pixels, &size);
    for (int i = 0; i < 5; i++) {
        quern_read_i64(args, &number[i]);
    }
    if (quern_reader_error(args) != QUERN_OK) {
        return quern_task_fail_args(task, args, "blur_strip takes pixels, width, top, bottom, first, last");
    }
    if (number[0] < 1 || number[1] > number[3] || number[3] > number[4] || number[4] > number[2] ||
        (size_t)((number[2] - number[1]) * number[0] * CHANNELS) != size) {
        return quern_task_fail(task, "BadStrip", "%zu bytes are not rows %" PRId64 " to %" PRId64, size, number[1],
                               number[2]);
    }
    size_t out_size = (size_t)((number[4] - number[3]) * number[0] * CHANNELS);
    unsigned char *out = malloc(out_size);
    if (out == NULL) {
        return quern_task_fail(task, "NoMemory", "%zu bytes", out_size);
    }
    blur(pixels, number[0], number[1], number[2], number[3], number[4], out);
    quern_write_bin(result, out, out_size);
    free(out);
    return QUERN_OK;
}

static const struct quern_function functions[] = {{"blur_strip", blur_strip}, {NULL, NULL}};
static const struct quern_module module = {.size = sizeof module, .functions = functions};

struct picture {
    int64_t width;
    int64_t height;
    unsigned char *pixels;
};

static struct picture picture_read(const char *path)
{
    png_image png = {.version = PNG_IMAGE_VERSION};

    if (!png_image_begin_read_from_file(&png, path)) {
        fprintf(stderr, "%s: %s\n", path, png.message);
        exit(1);
    }
    png.format = PNG_FORMAT_RGBA;
    struct picture picture = {png.width, png.height, malloc(PNG_IMAGE_SIZE(png))};
    if (picture.pixels == NULL || !png_image_finish_read(&png, NULL, picture.pixels, 0, NULL)) {
        fprintf(stderr, "%s: %s\n", path, png.message);
        exit(1);
    }
    return picture;
}

static void picture_write(const char *path, const struct picture *picture)
{
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)picture->width,
                     .height = (png_uint_32)picture->height,
                     .format = PNG_FORMAT_RGBA};

    if (!png_image_write_to_file(&png, path, 0, picture->pixels, 0, NULL)) {
        fprintf(stderr, "%s: %s\n", path, png.message);
        exit(1);
    }
}

struct strips {
    const struct picture *picture;
    int64_t next; /* first row of the next strip */
};

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static enum quern_err next_strip(void *context, struct quern_writer *args)
{
    struct strips *strips = context;
    const struct picture *picture = strips->picture;
    int64_t first = strips->next;

    if (first >= picture->height) {
        return QUERN_END;
    }
    int64_t last = smaller(first + STRIP, picture->height);
    int64_t top = first > RADIUS ? first - RADIUS : 0;
    int64_t bottom = smaller(last + RADIUS, picture->height);
    int64_t row = picture->width * CHANNELS;
    quern_write_array(args, 6);
    quern_write_bin(args, picture->pixels + top * row, (size_t)((bottom - top) * row));
    quern_write_i64(args, picture->width);
    quern_write_i64(args, top);
    quern_write_i64(args, bottom);
    quern_write_i64(args, first);
    quern_write_i64(args, last);
    strips->next = last;
    return QUERN_OK;
}

static void filter(struct quern_client *client, const struct picture *in, struct picture *out)
{
    struct strips strips = {.picture = in};
    struct quern_map_options options = QUERN_MAP_OPTIONS_INIT;
    struct quern_map_item item;
    struct quern_map *map;
    unsigned char *at = out->pixels;
    enum quern_err err;

    options.call.function = "blur_strip";
    options.window_count = 8; /* a few strips in memory, however large the picture is */
    must(quern_map_open(client, &options, next_strip, &strips, &map));
    while ((err = quern_map_next(map, QUERN_FOREVER, &item)) == QUERN_OK) {
        struct quern_reader reader;
        const void *rows;
        size_t size;

        if (item.outcome->state != QUERN_STATE_DONE) {
            fprintf(stderr, "strip %" PRIu64 ": %s\n", item.index, item.outcome->message);
            exit(1);
        }
        quern_reader_init(&reader, item.outcome->result, item.outcome->result_size);
        must(quern_read_bin(&reader, &rows, &size));
        memcpy(at, rows, size);
        at += size;
        quern_outcome_release(&item.outcome);
    }
    if (err != QUERN_END) {
        must(err);
    }
    quern_map_close(&map);
}

int main(int argc, char **argv)
{
    quern_pool_main(argc, argv, &module);

    if (argc != 3) {
        fprintf(stderr, "usage: image_filter IN.png OUT.png\n");
        return 2;
    }
    struct picture in = picture_read(argv[1]);
    size_t size = (size_t)(in.width * in.height * CHANNELS);
    struct picture out = {in.width, in.height, malloc(size)};
    unsigned char *expected = malloc(size);
    if (out.pixels == NULL || expected == NULL) {
        return 1;
    }

    struct quern_pool *pool = pool_of(2);
    filter(quern_pool_client(pool), &in, &out);
    must(quern_pool_close(&pool, 0));
    picture_write(argv[2], &out);

    blur(in.pixels, in.width, 0, in.height, 0, in.height, expected);
    bool is_same = memcmp(expected, out.pixels, size) == 0;
    printf("%" PRId64 " x %" PRId64 " pixels in strips of %d rows: %s\n", in.width, in.height, STRIP,
           is_same ? "the same as in one piece" : "NOT the same as in one piece");
    free(in.pixels);
    free(out.pixels);
    free(expected);
    return !is_same;
}
