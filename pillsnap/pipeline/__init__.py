"""All that ships: images, preprocessing, NMS, crops, codes, and the two stages in turn. Its source
goes into pillsnap_pipeline.py, beside the models: it imports numpy, Pillow and OpenCV alone."""
