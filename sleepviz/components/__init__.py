"""Small pieces of page that Streamlit does not have: inline JavaScript, no build step, no CDN."""
