#ifndef NO_MAIN
#include <stdio.h>
#include <stdlib.h>

static const char *const class_names[] = {NETWORK_CLASS_NAMES};
static float memory[NETWORK_MEMORY];
static float logits[NETWORK_CLASSES];
static uint8_t pixels[NETWORK_CHANNELS * NETWORK_HEIGHT * NETWORK_WIDTH];

/* Read the image's bytes, no more and no fewer; 0 where that cannot be. */
static int read_pixels(const char *path) {
    FILE *file = strcmp(path, "-") ? fopen(path, "rb") : stdin;
    size_t found = 0, more = 0;
    if (!file) return 0;
    while (found < sizeof pixels) {
        size_t got = fread(pixels + found, 1, sizeof pixels - found, file);
        if (!got) break;
        found += got;
    }
    if (found == sizeof pixels && fgetc(file) != EOF) more = 1;
    if (file != stdin) fclose(file);
    return found == sizeof pixels && !more;
}

/* The five best classes with their probabilities. */
static void print_best(void) {
    double total = 0.0, largest = logits[0];
    int rank, i;
    for (i = 1; i < NETWORK_CLASSES; i++)
        if (logits[i] > largest) largest = logits[i];
    for (i = 0; i < NETWORK_CLASSES; i++) total += exp(logits[i] - largest);
    for (rank = 0; rank < 5 && rank < NETWORK_CLASSES; rank++) {
        int best = 0;
        for (i = 1; i < NETWORK_CLASSES; i++)
            if (logits[i] > logits[best]) best = i;
        printf("%d %s %.4f\n", best, class_names[best], exp(logits[best] - largest) / total);
        logits[best] = -HUGE_VALF;
    }
}

int main(int count, char **words) {
    int planar = 0, all = 0, wrong = 0, i;
    const char *path = NULL;
    for (i = 1; i < count; i++) {
        if (!strcmp(words[i], "--planar"))
            planar = 1;
        else if (!strcmp(words[i], "--logits"))
            all = 1;
        else if (!path)
            path = words[i];
        else
            wrong = 1;
    }
    if (!path || wrong) {
        fprintf(stderr, "usage: network [--planar] [--logits] FILE, or - for standard input\n");
        return 2;
    }
    if (!read_pixels(path)) {
        fprintf(stderr, "%s is no file of %lu bytes: %d x %d pixels of %d channels.\n", path,
                (unsigned long)sizeof pixels, NETWORK_WIDTH, NETWORK_HEIGHT, NETWORK_CHANNELS);
        return 2;
    }
    network_classify(pixels, planar, logits, memory);
    if (all)
        for (i = 0; i < NETWORK_CLASSES; i++) printf("%.9g\n", logits[i]);
    else
        print_best();
    return 0;
}
#endif
