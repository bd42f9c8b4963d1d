"""The page script: page config and navigation, run by the server for every visit and click.

Knows that there are views; does not know any of them by name.
"""

import streamlit as st

from sleepviz import frame

st.set_page_config(page_title="sleepviz", page_icon="🌙", layout="wide")
st.navigation(list(frame.pages().values()), position="top").run()
