"""The page script: navigation and page config, run by the server for every visit and click.

Knows that there are views; does not know any of them by name.
"""

import streamlit as st

from sleepviz import frame

# The icon comes first: without it, a browser asks another server for that of the page's title.
st.set_page_config(page_title="sleepviz", page_icon="🌙", layout="wide")
page = st.navigation(list(frame.pages().values()), position="top")
st.set_page_config(page_title=f"{page.title} · sleepviz")
page.run()
