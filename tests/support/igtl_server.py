"""An OpenIGTLink server (pyigtl's) that sends ultrasound-like pictures and a tracker's pose: ``PORT``."""

import sys
import time

import numpy as np
import pyigtl

server = pyigtl.OpenIGTLinkServer(port=int(sys.argv[1]), local_server=True)
rows, columns = np.mgrid[:120, :160]
count = 0
while True:
    if server.is_connected():
        picture = ((rows + columns + 3 * count) % 200).astype(np.uint8)
        server.send_message(pyigtl.TransformMessage(np.eye(4), device_name="Probe"), wait=False)
        server.send_message(pyigtl.ImageMessage(picture[np.newaxis], device_name="Scan"), wait=True)
        deep = picture[np.newaxis].astype(np.uint16)
        server.send_message(pyigtl.ImageMessage(deep, device_name="Deep"), wait=True)
        count += 1
    time.sleep(0.03)
