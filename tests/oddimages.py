"""Which of the evaluation kit's difficult files cannot be read; all others must be."""

REFUSED_OF_KIT = {
    *("progressive_truncated.jpg", "truncated_image.png", "truncated_end_chunk.png"),
    *(
        "broken.png",
        "broken_data_stream.png",
        "zero_width.gif",
        "tRNS_null_1x1.png",
        "zero_bytes.jpg",
        "text_named.jpg",
        "html_named.png",
    ),
    *("decompression_bomb.gif", "decompression_bomb.ico", "giant_header.png", "giant_header.jpg", "tRNS_null_1x1.png"),
}
