import pytest

pytest.importorskip("pyarrow", reason="predict-many needs pyarrow: pip install 'solo-family[ray]'")
