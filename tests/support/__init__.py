"""What several tests share: builders, fakes and real servers."""
