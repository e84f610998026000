"""What an author needs to write an extension: the C header, its generator, the build."""
