import pandas as pd

x = "a <b> & c"  # ‮ turned
for i in range(10):
	print(f"{i}")