"""sleepviz: `streamlit run app.py`. The page script is sleepviz/main.py; every request passes the guard."""

import streamlit as st
from starlette.middleware import Middleware

from sleepviz.serving import Guard

app = st.App("sleepviz/main.py", middleware=[Middleware(Guard)])
