"""Files that torch.save wrote, read by an unpickler of our own: what stands in them is data."""
