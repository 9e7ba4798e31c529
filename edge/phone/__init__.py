"""The phone app: a web page that runs a bundle's int8 model in the browser, offline."""
