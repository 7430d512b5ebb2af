"""What a person looks at: logs and pictures."""
