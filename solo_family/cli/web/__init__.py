"""`demo --web`: a page in a browser, made with gradio.

`flags.py` holds the flags, `server.py` serves `page.py`, whose handlers are the methods of
`session.py`: it predicts pictures, keeps what was found small (`small.py`), and shows (`rows.py`,
`drawing.py`) and saves (`downloads.py`) what the page's threshold and classes leave of it.
"""
