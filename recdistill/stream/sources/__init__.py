"""Where the rows of a stream come from: Delta tables, NATS JetStream or Kafka, all read alike."""
