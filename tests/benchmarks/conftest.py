from tests.genutil.conftest import one_thread

__all__ = ["one_thread"]
