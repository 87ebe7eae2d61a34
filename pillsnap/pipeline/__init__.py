"""All that ships: images, preprocessing, NMS, crops, codes, and the two stages in turn."""
