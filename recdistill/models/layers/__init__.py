"""What backbones share: blocks, checked options, devices."""
