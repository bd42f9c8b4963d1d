"""sleepviz: `streamlit run app.py`. The page script is page.py, behind the guard; no logic here."""

import streamlit as st
from starlette.middleware import Middleware

from sleepviz.serving import Guard

app = st.App("page.py", middleware=[Middleware(Guard)])
