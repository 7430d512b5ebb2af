/* A level: nodes that are computed one after another in the same way. Sizes are in pixels; `base` is the node that
   index 0 of an edge means. Tables that a level does not need are null. */
struct level {
    uint32_t nodes, first, base;
    int32_t source_height, source_width, height, width, out_height, out_width;
    int32_t kernel_height, kernel_width, stride, padding;
    uint8_t count_bytes, index_bytes, relu, mean;
    const void *counts; /* edges of every node */
    const void *index;  /* where every edge starts; null: in all nodes from `base` on */
    const float *weight, *bias;
    const float *norm; /* scale and shift of every node */
    float eps;
    int32_t depthwise_height, depthwise_width, depthwise_stride, depthwise_padding;
    const float *depthwise, *depthwise_bias;
    int32_t top, bottom, left, right; /* what the mean is taken over */
    uint32_t constants;
    const uint32_t *constant_nodes;
    const float *constant_planes;
};

/* Entry i of a table of 1, 2 or 4 bytes an entry. */
static uint32_t entry(const void *table, unsigned bytes, uint32_t i) {
    if (bytes == 1) return ((const uint8_t *)table)[i];
    if (bytes == 2) return ((const uint16_t *)table)[i];
    return ((const uint32_t *)table)[i];
}

/* sums += weight * plane */
static void add_scaled(float *restrict sums, const float *restrict plane, float weight, uint32_t pixels) {
    uint32_t i;
    for (i = 0; i < pixels; i++) sums[i] += weight * plane[i];
}

/* Four edges at once, so that the sums are read and written once for them. */
static void add_four(float *restrict sums, const float *const *planes, const float *weight, uint32_t pixels) {
    const float *restrict a = planes[0], *restrict b = planes[1], *restrict c = planes[2], *restrict d = planes[3];
    float wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3];
    uint32_t i;
    for (i = 0; i < pixels; i++) sums[i] += wa * a[i] + wb * b[i] + (wc * c[i] + wd * d[i]);
}

/* The outputs from *begin to *end (excluded) of a line of `out` see the tap `at` inside of a line of `size`. */
static void inside(int32_t at, int32_t stride, int32_t size, int32_t out, int32_t *begin, int32_t *end) {
    int32_t last = size - 1 - at;
    *begin = at < 0 ? (-at + stride - 1) / stride : 0;
    *end = last < 0 ? 0 : last / stride + 1;
    if (*end > out) *end = out;
}

/* sums [height, width] += plane [source_height, source_width] convolved with a kernel, zeros around the plane */
static void add_convolved(float *sums, int32_t height, int32_t width, const float *plane, int32_t source_height,
                          int32_t source_width, const float *kernel, int32_t kernel_height, int32_t kernel_width,
                          int32_t stride, int32_t padding) {
    int32_t ky, kx, y, x, top, bottom, left, right;
    for (ky = 0; ky < kernel_height; ky++) {
        inside(ky - padding, stride, source_height, height, &top, &bottom);
        for (kx = 0; kx < kernel_width; kx++) {
            float weight = kernel[ky * kernel_width + kx];
            inside(kx - padding, stride, source_width, width, &left, &right);
            if (weight == 0.0f || left >= right) continue;
            for (y = top; y < bottom; y++) {
                const float *from = plane + (y * stride + ky - padding) * source_width;
                float *to = sums + y * width;
                for (x = left; x < right; x++) to[x] += weight * from[x * stride + kx - padding];
            }
        }
    }
}

/* Standardise a plane by its own mean and variance, then scale and shift it. */
static void normalise_plane(float *plane, uint32_t pixels, float eps, float scale, float shift) {
    float mean = 0.0f, variance = 0.0f, factor;
    uint32_t i;
    for (i = 0; i < pixels; i++) mean += plane[i];
    mean /= (float)pixels;
    for (i = 0; i < pixels; i++) variance += (plane[i] - mean) * (plane[i] - mean);
    factor = scale / sqrtf(variance / (float)pixels + eps);
    for (i = 0; i < pixels; i++) plane[i] = (plane[i] - mean) * factor + shift;
}

/* The mean of a window of a plane. */
static float mean_of(const float *plane, const struct level *level) {
    float sum = 0.0f;
    int32_t y, x;
    for (y = level->top; y < level->bottom; y++)
        for (x = level->left; x < level->right; x++) sum += plane[y * level->out_width + x];
    return sum / (float)((level->bottom - level->top) * (level->right - level->left));
}

/* The plane that edge `edge` starts from; it is number i of its node. */
static const float *source(const struct level *level, uint32_t edge, uint32_t i, const float *memory) {
    return memory + place[level->base + (level->index ? entry(level->index, level->index_bytes, edge) : i)];
}

/* The sum of one node over its edges, of which the first is number `edge`; what follows them. */
static uint32_t sum_edges(const struct level *level, uint32_t node, uint32_t edge, float *sums, const float *memory) {
    uint32_t count = entry(level->counts, level->count_bytes, node), i, k;
    uint32_t taps = (uint32_t)(level->kernel_height * level->kernel_width);
    uint32_t pixels = (uint32_t)(level->height * level->width);
    for (i = 0; i < pixels; i++) sums[i] = level->bias[node];
    if (taps == 1 && level->stride == 1 && level->padding == 0) {
        const float *planes[4], *weight = level->weight + edge;
        for (i = 0; i + 4 <= count; i += 4) {
            for (k = 0; k < 4; k++) planes[k] = source(level, edge + i + k, i + k, memory);
            add_four(sums, planes, weight + i, pixels);
        }
        for (; i < count; i++) add_scaled(sums, source(level, edge + i, i, memory), weight[i], pixels);
    } else {
        for (i = 0; i < count; i++)
            add_convolved(sums, level->height, level->width, source(level, edge + i, i, memory), level->source_height,
                          level->source_width, level->weight + (edge + i) * taps, level->kernel_height,
                          level->kernel_width, level->stride, level->padding);
    }
    return edge + count;
}

/* All nodes of a level, each into its place. */
static void run_level(const struct level *level, float *memory) {
    float *scratch = memory + NETWORK_SCRATCH;
    uint32_t node, i, edge = 0, constant = 0;
    uint32_t pixels = (uint32_t)(level->height * level->width);
    uint32_t out_pixels = (uint32_t)(level->out_height * level->out_width);
    for (node = 0; node < level->nodes; node++) {
        float *out = memory + place[level->first + node];
        float *sums = level->depthwise || level->mean ? scratch : out;
        edge = sum_edges(level, node, edge, sums, memory);
        if (constant < level->constants && level->constant_nodes[constant] == node) {
            add_scaled(sums, level->constant_planes + constant * pixels, 1.0f, pixels);
            constant++;
        }
        if (level->norm)
            normalise_plane(sums, pixels, level->eps, level->norm[2 * node], level->norm[2 * node + 1]);
        if (level->relu)
            for (i = 0; i < pixels; i++) sums[i] = sums[i] > 0.0f ? sums[i] : 0.0f;
        if (level->depthwise) {
            const float *kernel = level->depthwise + node * level->depthwise_height * level->depthwise_width;
            float *convolved = level->mean ? scratch + pixels : out;
            for (i = 0; i < out_pixels; i++) convolved[i] = level->depthwise_bias ? level->depthwise_bias[node] : 0.0f;
            add_convolved(convolved, level->out_height, level->out_width, sums, level->height, level->width, kernel,
                          level->depthwise_height, level->depthwise_width, level->depthwise_stride,
                          level->depthwise_padding);
            sums = convolved;
        }
        if (level->mean) *out = mean_of(sums, level);
    }
}

/* All levels; the image lies in its place. */
static void run_levels(float *logits, float *memory) {
    uint32_t i;
    for (i = 0; i < NETWORK_LEVELS; i++) run_level(&levels[i], memory);
    for (i = 0; i < NETWORK_CLASSES; i++) logits[i] = memory[place[NETWORK_NODES - NETWORK_CLASSES + i]];
}

void network_run(const float *image, float *logits, float *memory) {
    uint32_t channel, pixels = NETWORK_HEIGHT * NETWORK_WIDTH;
    for (channel = 0; channel < NETWORK_CHANNELS; channel++)
        memcpy(memory + place[channel], image + channel * pixels, pixels * sizeof(float));
    run_levels(logits, memory);
}

void network_classify(const uint8_t *pixels, int planar, float *logits, float *memory) {
    uint32_t channel, i, count = NETWORK_HEIGHT * NETWORK_WIDTH;
    float mean = 0.0f, deviation = 1.0f;
#if NETWORK_STANDARDISE
    double total = (double)count * NETWORK_CHANNELS, sum = 0.0, square = 0.0;
    for (i = 0; i < count * NETWORK_CHANNELS; i++) sum += pixels[i];
    for (i = 0; i < count * NETWORK_CHANNELS; i++) square += (pixels[i] - sum / total) * (pixels[i] - sum / total);
    mean = (float)(sum / total);
    deviation = (float)sqrt(square / total < 1.0 / total ? 1.0 / total : square / total);
#endif
    for (channel = 0; channel < NETWORK_CHANNELS; channel++) {
        float *plane = memory + place[channel];
        uint32_t step = planar ? 1 : NETWORK_CHANNELS, at = planar ? channel * count : channel;
#if !NETWORK_STANDARDISE
        mean = 255.0f * channel_mean[channel];
        deviation = 255.0f * channel_std[channel];
#endif
        for (i = 0; i < count; i++, at += step) plane[i] = ((float)pixels[at] - mean) / deviation;
    }
    run_levels(logits, memory);
}
