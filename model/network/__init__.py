"""The network, as the papers have it: MusicGen's transformer, the adapter, T5 and EnCodec, over any backend."""
