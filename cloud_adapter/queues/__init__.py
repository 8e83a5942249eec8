"""Where tasks wait: the ``TaskQueue`` port in this process and over Cloud Tasks."""
