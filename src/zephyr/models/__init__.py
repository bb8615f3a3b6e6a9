"""Students and local teachers: where they come from, and how they are loaded and saved."""

import os

# On processors PyTorch and oneDNN under it each keep what they made for a product's shape, 1,024 of them. Streams are ever of new
# lengths, so that it is not used again, and takes hundreds of megabytes all over the heap. Read at a process's first product.
os.environ.setdefault("LRU_CACHE_CAPACITY", "32")
if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:  # oneDNN's earlier name for the next, which it still reads
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
